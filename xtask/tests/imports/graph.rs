//! Who imports whom in a crate, file by file or directory by directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path as FilePath,
};

use super::source::{self, Path, Source};

/// What the file at the root of a crate is called.
pub const ROOT: &str = "main";

/// Each of them with those it imports, and one import that shows it.
pub type Imports = BTreeMap<String, BTreeMap<String, String>>;

/// The files of a crate by the module that each is.
pub struct Crate(BTreeMap<Path, Source>);

impl Crate {
    /// Reads what is below a directory.
    pub fn at(directory: &FilePath) -> Self {
        let mut files = Vec::new();
        gather(directory, &mut Vec::new(), &mut files);
        Self::of(&files)
    }

    /// `files`: paths below the directory `src`, and texts.
    pub fn of(files: &[(String, String)]) -> Self {
        let sources: BTreeMap<Path, Source> = files
            .iter()
            .map(|(path, text)| {
                let module = module(path);
                let source = source::read(&module, text);
                (module, source)
            })
            .collect();
        let tests: Vec<Path> = sources
            .values()
            .flat_map(|source| source.tests.clone())
            .collect();
        let is_test = |module: &Path| tests.iter().any(|test| module.starts_with(test));
        let sources = sources.into_iter();
        Self(sources.filter(|(module, _)| !is_test(module)).collect())
    }

    /// File by file, named `directory/file`.
    pub fn files(&self) -> Imports {
        self.imports(|module| match module {
            [] => ROOT.to_owned(),
            _ => module.join("/"),
        })
    }

    /// By what is right below the root: a directory or a file.
    pub fn directories(&self) -> Imports {
        self.imports(|module| module.first().map_or(ROOT, |first| first).to_owned())
    }

    fn imports(&self, name: impl Fn(&[String]) -> String) -> Imports {
        let mut imports = Imports::new();
        for (module, source) in &self.0 {
            let from = name(module);
            let imported = imports.entry(from.clone()).or_default();
            for path in &source.named {
                let to = name(self.home(path));
                if to != from {
                    let file = if module.is_empty() {
                        ROOT.to_owned()
                    } else {
                        module.join("/")
                    };
                    let shown = format!("{file} has crate::{}", path.join("::"));
                    imported.entry(to).or_insert(shown);
                }
            }
        }
        imports
    }

    /// The file that has what a path leads to, also where another one gives it on.
    fn home(&self, path: &[String]) -> &[String] {
        let mut path = path.to_vec();
        loop {
            let of = (0..=path.len())
                .rev()
                .find_map(|length| self.0.get_key_value(&path[..length]));
            let Some((module, source)) = of else {
                return &[];
            };
            let item = path.get(module.len());
            let given_on = source.given_on.iter().find(|(name, _)| Some(name) == item);
            match given_on {
                Some((_, from)) => {
                    let rest = &path[module.len() + 1..];
                    path = [from.as_slice(), rest].concat();
                }
                None => return module,
            }
        }
    }
}

fn gather(directory: &FilePath, above: &mut Path, files: &mut Vec<(String, String)>) {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str());
        above.push(name.expect("UTF-8").to_owned());
        if path.is_dir() {
            gather(&path, above, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            files.push((above.join("/"), text));
        }
        above.pop();
    }
}

/// The module that a file is.
fn module(path: &str) -> Path {
    let mut module: Path = path
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    module.pop_if(|last| matches!(last.as_str(), "mod" | "main" | "lib"));
    module
}

/// A circle, if there is one, with what each import in it is.
pub fn circle(imports: &Imports) -> Option<String> {
    let mut done = BTreeSet::new();
    let mut way = Vec::new();
    let names = imports.keys();
    names
        .into_iter()
        .find_map(|name| walk(imports, name, &mut way, &mut done))
}

fn walk<'a>(
    imports: &'a Imports,
    name: &'a str,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<String> {
    if let Some(at) = way.iter().position(|on| *on == name) {
        let circle = [&way[at..], &[name]].concat();
        let mut shown = circle.join(" -> ");
        for pair in circle.windows(2) {
            let _ = write!(shown, "\n  {}", imports[pair[0]][pair[1]]);
        }
        return Some(shown);
    }
    if !done.insert(name) {
        return None;
    }
    way.push(name);
    let imported = imports.get(name).into_iter().flat_map(BTreeMap::keys);
    let found = imported
        .into_iter()
        .find_map(|to| walk(imports, to, way, done));
    way.pop();
    found
}
