//! A real terminal: a shell under tmux, which draws what programs write as any terminal would, and
//! can be asked what stands there.

use std::path::Path;
use std::process::Command;

use super::eventually;

/// One session of tmux's; ended when dropped.
pub struct Terminal {
    socket: String,
}

impl Terminal {
    /// A shell with `lease-trace` on its PATH, in so many columns and lines.
    pub fn start(columns: u32, lines: u32) -> Self {
        let tool = std::env::var_os("LEASE_TRACE").expect("LEASE_TRACE names the tool");
        let directory = Path::new(&tool).parent().expect("it is in a directory");
        let path = std::env::var("PATH").unwrap_or_default();
        let terminal = Self {
            socket: format!("{columns}x{lines}"),
        };
        let size = [columns.to_string(), lines.to_string()];
        let started = Command::new("tmux")
            .args(["-u", "-L", &terminal.socket, "-f", "/dev/null"])
            .args(["new-session", "-d", "-x", &size[0], "-y", &size[1]])
            .args(["env", "PS1=$ ", "sh"])
            .env("PATH", format!("{}:{path}", directory.display()))
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "linux")
            .env_remove("NO_COLOR")
            .status()
            .expect("tmux runs");
        assert!(started.success(), "tmux: {started}");
        terminal.expect("$");
        terminal
    }

    #[track_caller]
    fn tmux(&self, arguments: &[&str]) -> String {
        let ran = Command::new("tmux")
            .args(["-u", "-L", &self.socket])
            .args(arguments)
            .output()
            .expect("tmux runs");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "tmux {arguments:?}: {said}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    /// Types a line.
    pub fn line(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.keys(&["Enter"]);
    }

    /// Presses keys, by tmux's names for them.
    pub fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// What stands on it.
    pub fn picture(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The same with the escapes that give it its colours.
    pub fn coloured(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    pub fn resize(&self, columns: u32, lines: u32) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines]);
    }

    /// Waits until a picture is as wanted, and returns it.
    #[track_caller]
    pub fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut picture = String::new();
        let there = eventually(|| {
            picture = self.picture();
            wanted(&picture)
        });
        assert!(there, "no {what} in\n{picture}");
        picture
    }

    /// Waits until this stands somewhere.
    #[track_caller]
    pub fn expect(&self, text: &str) -> String {
        self.wait(text, |picture| picture.contains(text))
    }

    /// Asserts that no program has the terminal: what the shell had written is there, the cursor is
    /// there, and what is typed is shown.
    #[track_caller]
    pub fn assert_given_back(&self) {
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state.trim(), "0 1", "{}", self.picture());
        self.line("stty -a | tr ' ;' '\\n\\n' | grep -cx -e echo -e icanon -e isig -e opost");
        self.wait("ordinary settings", |picture| {
            picture.lines().any(|line| line == "4")
        });
    }

    /// The terminal goes away, as with a connection that is lost.
    pub fn hang_up(&self) {
        self.tmux(&["kill-server"]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .args(["-L", &self.socket, "kill-server"])
            .output();
    }
}
