//! Reads the machine's own apt sources, in both formats, to learn where its Debian packages come
//! from. Nothing here talks to the network.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

/// Suites that are a release of Debian as such: not its updates, security fixes or backports.
const RELEASES: &[&str] = &[
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// Names a Debian mirror where the machine's own sources name none.
const OVERRIDE: &str = "LEASE_TRACE_DEBIAN_MIRROR";

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    uri: String,
    suite: String,
}

/// The address that Debian's packages come from on this machine.
pub fn mirror() -> Result<String> {
    if let Ok(uri) = std::env::var(OVERRIDE)
        && !uri.is_empty()
    {
        return Ok(uri);
    }
    match debian(&entries(Path::new("/etc/apt"))?) {
        Some(uri) => Ok(uri),
        None => bail!(
            "no entry of this machine's apt sources (/etc/apt/sources.list, \
             /etc/apt/sources.list.d) is a Debian release, so there is nothing to take Debian's \
             kernels and userland from: set {OVERRIDE} to the address of a Debian mirror, or boot \
             a kernel of your own with --kernel PATH"
        ),
    }
}

fn debian(entries: &[Entry]) -> Option<String> {
    let entry = entries
        .iter()
        .find(|entry| RELEASES.contains(&entry.suite.as_str()))?;
    Some(entry.uri.clone())
}

fn entries(etc: &Path) -> Result<Vec<Entry>> {
    let mut files = vec![etc.join("sources.list")];
    let parts = etc.join("sources.list.d");
    if parts.is_dir() {
        let mut found = fs::read_dir(&parts)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("listing {}", parts.display()))?;
        found.sort_by_key(fs::DirEntry::file_name);
        files.extend(found.iter().map(fs::DirEntry::path));
    }
    let mut entries = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        let parse = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => one_line,
            Some("sources") => deb822,
            _ => continue,
        };
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        entries.extend(parse(&text));
    }
    Ok(entries)
}

/// `deb [option=value ...] URI SUITE COMPONENT...`
fn one_line(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
        let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let mut words = rest.split_whitespace();
        Some(Entry {
            uri: words.next()?.to_owned(),
            suite: words.next()?.to_owned(),
        })
    };
    text.lines().filter_map(entry).collect()
}

/// Stanzas of `Types:`, `URIs:`, `Suites:`; a field goes on in lines that start with a space.
fn deb822(text: &str) -> Vec<Entry> {
    text.split("\n\n").flat_map(stanza).collect()
}

fn stanza(text: &str) -> Vec<Entry> {
    let mut fields: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        if line.starts_with([' ', '\t']) {
            if let Some((_, values)) = fields.last_mut() {
                values.extend(words(line));
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_ascii_lowercase(), words(value)));
        }
    }
    let field = |wanted: &str| {
        let found = fields.iter().find(|(name, _)| name == wanted);
        found
            .map(|(_, values)| values.as_slice())
            .unwrap_or_default()
    };
    if field("enabled")
        .first()
        .is_some_and(|value| value.eq_ignore_ascii_case("no"))
        || !field("types").iter().any(|kind| kind == "deb")
    {
        return Vec::new();
    }
    let suites = field("suites");
    field("uris")
        .iter()
        .flat_map(|uri| {
            suites.iter().map(|suite| Entry {
                uri: uri.clone(),
                suite: suite.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uri: &str, suite: &str) -> Entry {
        Entry {
            uri: uri.to_owned(),
            suite: suite.to_owned(),
        }
    }

    #[test]
    fn one_line_entries() {
        let text = "# deb http://old/debian buster main\n\
                    deb-src http://m/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://m/debian-security bookworm-security main\n\
                    deb http://m/debian bookworm main contrib # the one\n";
        let found = one_line(text);
        assert_eq!(
            found,
            [
                entry("http://m/debian-security", "bookworm-security"),
                entry("http://m/debian", "bookworm")
            ]
        );
        assert_eq!(debian(&found).as_deref(), Some("http://m/debian"));
    }

    #[test]
    fn deb822_entries() {
        let text = "Types: deb\n# a remark\nURIs: http://s/debian-security\nSuites: trixie-security\n\n\
                    Types: deb deb-src\nURIs: http://m/debian\nSuites: trixie\n trixie-updates\nComponents: main\n\n\
                    Enabled: no\nTypes: deb\nURIs: http://off/debian\nSuites: sid\n";
        let found = deb822(text);
        assert_eq!(
            found,
            [
                entry("http://s/debian-security", "trixie-security"),
                entry("http://m/debian", "trixie"),
                entry("http://m/debian", "trixie-updates"),
            ]
        );
        assert_eq!(debian(&found).as_deref(), Some("http://m/debian"));
    }

    #[test]
    fn another_distribution_has_no_debian_release() {
        assert_eq!(debian(&one_line("deb http://m/ubuntu noble main\n")), None);
    }

    #[test]
    fn both_formats_are_found_in_their_places() {
        let etc = tempfile::tempdir().unwrap();
        let parts = etc.path().join("sources.list.d");
        fs::create_dir(&parts).unwrap();
        fs::write(
            parts.join("debian.sources"),
            "Types: deb\nURIs: http://b/\nSuites: sid\n",
        )
        .unwrap();
        fs::write(parts.join("off.list.disabled"), "deb http://c/ sid main\n").unwrap();
        fs::write(
            etc.path().join("sources.list"),
            "deb http://a/ stable main\n",
        )
        .unwrap();
        let found = entries(etc.path()).unwrap();
        assert_eq!(
            found,
            [entry("http://a/", "stable"), entry("http://b/", "sid")]
        );
    }
}
