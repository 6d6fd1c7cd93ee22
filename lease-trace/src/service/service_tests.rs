//! A socket of the tests' own stands in for the service manager's. Whoever speaks to it needs an
//! environment of its own: it is this test program, run once more for one test that is ignored
//! otherwise.

use std::{
    fs::File,
    io::{IoSliceMut, Read as _, Seek as _, Write as _},
    mem::MaybeUninit,
    os::unix::net::UnixDatagram,
    process::Command,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;

use super::*;

/// The service manager's end.
pub struct StandIn {
    directory: TempDir,
    socket: UnixDatagram,
}

/// One message, and the descriptors that came with it.
pub struct Told {
    pub text: String,
    pub files: Vec<OwnedFd>,
}

impl StandIn {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        socket.set_nonblocking(true).expect("a socket's flag");
        Self { directory, socket }
    }

    /// Runs one test of this program as a service, with `kept` as what was in its store, and
    /// returns all that it told.
    pub fn run(&self, test: &str, env: &[(&str, &str)], kept: Option<(&str, &File)>) -> Vec<Told> {
        let program = std::env::current_exe().expect("this program");
        // The descriptors handed over begin at 3, and the pid is that of the program itself.
        let script = match kept {
            Some(_) => "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 </dev/null",
            None => "exec \"$@\"",
        };
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh"])
            .arg(program)
            .args(["--exact", test, "--include-ignored", "--nocapture"])
            .env("NOTIFY_SOCKET", self.directory.path().join("notify"))
            .envs(env.iter().copied());
        if let Some((name, file)) = kept {
            command
                .stdin(file.try_clone().expect("a duplicate"))
                .env("LISTEN_FDNAMES", name);
        }
        let ran = command.output().expect("sh");
        let words = String::from_utf8_lossy(&ran.stdout);
        assert!(
            ran.status.success() && words.contains("1 passed"),
            "{ran:?}"
        );
        std::iter::from_fn(|| self.receive()).collect()
    }

    fn receive(&self) -> Option<Told> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
        .ok()?;
        let files = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => Some(files),
                _ => None,
            })
            .flatten()
            .collect();
        let text = String::from_utf8_lossy(&bytes[..received.bytes]).into_owned();
        Some(Told { text, files })
    }
}

#[test]
fn a_service_tells_how_it_fares() {
    let watched = [("WATCHDOG_USEC", "30000000")];
    let told = StandIn::new().run("service::service_tests::as_a_service", &watched, None);
    let texts: Vec<_> = told.iter().map(|told| told.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "READY=1\nSTATUS=1 rule\n",
            "WATCHDOG=1\n",
            "WATCHDOG=1\n",
            "STATUS=2 rules\n",
            "FDSTORE=1\nFDNAME=hold-1-2\n",
            "FDSTOREREMOVE=1\nFDNAME=hold-1-2\n",
            "STOPPING=1\n",
        ]
    );
    let mut kept: Vec<File> = told
        .into_iter()
        .flat_map(|told| told.files)
        .map(File::from)
        .collect();
    assert_eq!(kept.len(), 1);
    let mut content = String::new();
    kept[0].rewind().expect("a file");
    kept[0].read_to_string(&mut content).expect("a file");
    assert_eq!(content, "held");
}

#[test]
#[ignore = "run by a_service_tells_how_it_fares"]
fn as_a_service() {
    let mut service = Service::find();
    assert_eq!(service.pulse(), Some(Duration::from_secs(15)));
    service.ready("1 rule".to_owned());
    service.alive("1 rule".to_owned());
    service.alive("2 rules".to_owned());
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"held").expect("room for it");
    let store = Store::of_manager();
    store.keep("hold-1-2", &[file.into()]);
    store.forget("hold-1-2");
    service.stopping();
}

#[test]
fn what_was_kept_is_handed_over() {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"held").expect("room for it");
    let kept = Some(("hold-1-2", &file));
    let told = StandIn::new().run("service::service_tests::with_what_was_kept", &[], kept);
    assert!(told.is_empty());
}

#[test]
#[ignore = "run by what_was_kept_is_handed_over"]
fn with_what_was_kept() {
    let mut service = Service::find();
    assert_eq!(service.pulse(), None);
    let [Handed { name, file }] = &service.take_handed()[..] else {
        panic!("not one descriptor");
    };
    assert_eq!(name, "hold-1-2");
    let mut file = File::from(file.try_clone().expect("a duplicate"));
    let mut content = String::new();
    file.rewind().expect("a file");
    file.read_to_string(&mut content).expect("a file");
    assert_eq!(content, "held");
}
