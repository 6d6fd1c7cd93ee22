//! Output of one of several guests: each whole line goes out behind a label that says whose it is.

use std::io::{self, Write};

pub struct Labelled<W> {
    label: String,
    out: W,
    line: Vec<u8>,
}

impl<W: Write> Labelled<W> {
    pub fn new(label: String, out: W) -> Self {
        Self {
            label,
            out,
            line: Vec::new(),
        }
    }
}

impl<W: Write> Write for Labelled<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let mut whole = format!("[{}] ", self.label).into_bytes();
                whole.append(&mut self.line);
                self.out.write_all(&whole)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_labelled() {
        let mut out = Vec::new();
        let mut labelled = Labelled::new("6.1 initramfs".to_owned(), &mut out);
        labelled.write_all(b"test a ... ").unwrap();
        labelled.write_all(b"ok\ntest b ... ok\nte").unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "[6.1 initramfs] test a ... ok\n[6.1 initramfs] test b ... ok\n"
        );
    }
}
