//! `lease-trace plot`: a record in, a picture out. It asks nothing of the kernel.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};

use crate::{
    cli::PlotFlags,
    exit::Exit,
    plot::{html, read, svg, timeline},
    sinks::WriteError,
};

pub fn run(flags: &PlotFlags) -> anyhow::Result<Exit> {
    let PlotFlags {
        file,
        output,
        html,
        rows,
    } = flags;
    let reading = read::read(&contents(file)?);
    if reading.lines.is_empty() {
        bail!(
            "{}: there is no event of a monitor in it; write one with lease-trace record FILE",
            file.display()
        );
    }
    let timeline = timeline::of(&reading, *rows);
    let page = *html || output.as_deref().is_some_and(is_page);
    let picture = if page {
        html::draw(&timeline)
    } else {
        svg::draw(&timeline)
    };
    if let Some(path) = output {
        let failed = || format!("cannot write {}", path.display());
        fs::write(path, picture).with_context(failed)?;
    } else {
        let mut stdout = io::stdout();
        stdout.write_all(picture.as_bytes()).map_err(WriteError)?;
    }
    Ok(Exit::Done)
}

fn contents(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut contents = Vec::new();
    if file == Path::new("-") {
        let mut stdin = io::stdin().lock();
        stdin
            .read_to_end(&mut contents)
            .context("cannot read stdin")?;
        return Ok(contents);
    }
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "html")
}
