//! One source file, as far as it takes to tell what it imports: `use` declarations and paths in
//! bodies, macros included. What is compiled for tests only does not count.

/// A path that begins at the root of the crate, in segments; `super` and `self` are worked out.
pub type Path = Vec<String>;

/// What a file says.
#[derive(Debug, Default)]
pub struct Source {
    /// What it names of its crate.
    pub named: Vec<Path>,
    /// What it gives on under its own name: that name, and where it is from.
    pub given_on: Vec<(String, Path)>,
    /// Modules below it that are compiled for tests only.
    pub tests: Vec<Path>,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Sign(char),
}

impl Token {
    fn is(&self, text: &str) -> bool {
        match self {
            Self::Word(word) => word == text,
            Self::Sign(sign) => text.chars().eq([*sign]),
        }
    }
}

/// Reads a file that is the module `at`.
pub fn read(at: &[String], text: &str) -> Source {
    let tokens = tokens(text);
    let mut source = Source::default();
    // Modules written out in this file, with the depth of braces at which each began.
    let mut inside: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let children = children(&tokens);
    let mut next = 0;
    while next < tokens.len() {
        let rest = &tokens[next..];
        let module = || -> Path {
            let inner = inside.iter().map(|(name, _)| name.clone());
            at.iter().cloned().chain(inner).collect()
        };
        if begins(rest, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            if let Some(name) = declared(&rest[7..]) {
                source.tests.push([module(), vec![name]].concat());
            }
            next += 7 + item(&rest[7..]);
            continue;
        }
        if begins(rest, &["#", "[", "cfg_attr", "(", "test", ","]) {
            next += 1 + group(&rest[1..]);
            continue;
        }
        if rest[0].is("{") {
            depth += 1;
        } else if rest[0].is("}") {
            depth -= 1;
            inside.pop_if(|(_, began)| *began == depth);
        } else if let [mod_, Token::Word(name), brace, ..] = rest
            && mod_.is("mod")
            && brace.is("{")
        {
            inside.push((name.clone(), depth));
        } else if rest[0].is("use") {
            let (paths, length) = tree(&rest[1..]);
            let is_public = next > 0 && (tokens[next - 1].is("pub") || tokens[next - 1].is(")"));
            for (path, name) in paths {
                let Some(path) = resolve(&module(), &children, &path) else {
                    continue;
                };
                if is_public && path.starts_with(at) && name != "*" {
                    source.given_on.push((name, path));
                } else {
                    source.named.push(path);
                }
            }
            next += 1 + length;
            continue;
        } else if let [Token::Word(_), a, b, ..] = rest
            && a.is(":")
            && b.is(":")
            && (next == 0 || !tokens[next - 1].is(":"))
        {
            let (paths, length) = tree(rest);
            let paths = paths.iter().map(|(path, _)| path);
            let found = paths.filter_map(|path| resolve(&module(), &children, path));
            source.named.extend(found);
            next += length.max(1);
            continue;
        }
        next += 1;
    }
    source
}

/// The modules that are files below this one.
fn children(tokens: &[Token]) -> Vec<String> {
    let declared = (0..tokens.len()).filter(|at| tokens[*at].is("mod"));
    let names = declared.filter_map(|at| match &tokens[at + 1..] {
        [Token::Word(name), end, ..] if end.is(";") => Some(name.clone()),
        _ => None,
    });
    names.collect()
}

/// From the root of the crate; `None` if the path leads out of the crate, or to an item of the
/// same file.
fn resolve(module: &[String], children: &[String], path: &[String]) -> Option<Path> {
    let mut base = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.to_vec(),
        child if children.iter().any(|name| name == child) => {
            return Some([module, path].concat());
        }
        _ => return None,
    };
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        match first.as_str() {
            "crate" | "self" => {}
            "super" => _ = base.pop(),
            _ => break,
        }
        rest = tail;
    }
    base.extend_from_slice(rest);
    Some(base)
}

/// The paths of a `use` tree, or of one path, each with the name it has then; and how many tokens
/// it is made of.
fn tree(tokens: &[Token]) -> (Vec<(Path, String)>, usize) {
    let mut at = 0;
    match tokens.first() {
        Some(Token::Word(word)) => {
            let mut paths = vec![(vec![word.clone()], word.clone())];
            at += 1;
            if begins(&tokens[at..], &[":", ":"]) {
                let (below, length) = tree(&tokens[at + 2..]);
                if length > 0 {
                    at += 2 + length;
                    paths = below
                        .into_iter()
                        .map(|(path, name)| match path.as_slice() {
                            [this] if this == "self" => (vec![word.clone()], word.clone()),
                            _ => ([vec![word.clone()], path].concat(), name),
                        })
                        .collect();
                }
            }
            if let [as_, Token::Word(name), ..] = &tokens[at..]
                && as_.is("as")
            {
                at += 2;
                paths = paths
                    .into_iter()
                    .map(|(path, _)| (path, name.clone()))
                    .collect();
            }
            (paths, at)
        }
        Some(Token::Sign('*')) => (vec![(vec!["*".to_owned()], "*".to_owned())], 1),
        Some(Token::Sign('{')) => {
            let mut paths = Vec::new();
            at += 1;
            while at < tokens.len() && !tokens[at].is("}") {
                let (more, length) = tree(&tokens[at..]);
                paths.extend(more);
                at += length.max(1);
            }
            (paths, at + 1)
        }
        _ => (Vec::new(), 0),
    }
}

fn begins(tokens: &[Token], with: &[&str]) -> bool {
    tokens.len() >= with.len() && with.iter().zip(tokens).all(|(text, token)| token.is(text))
}

/// The name in `mod NAME;`.
fn declared(tokens: &[Token]) -> Option<String> {
    let at = tokens.iter().position(|token| token.is("mod"))?;
    match &tokens[at + 1..] {
        [Token::Word(name), end, ..] if end.is(";") && at <= 4 => Some(name.clone()),
        _ => None,
    }
}

/// How many tokens there are of the item, the arm or the field at the beginning.
fn item(tokens: &[Token]) -> usize {
    /// What begins with one of these ends with a semicolon or a body, anything else with a comma.
    const ITEMS: [&str; 10] = [
        "fn", "mod", "impl", "struct", "enum", "const", "static", "type", "let", "use",
    ];
    let among = |names: &[&str]| {
        let mut first = tokens.iter().take(5).take_while(|token| !token.is("{"));
        first.any(|token| names.iter().any(|name| token.is(name)))
    };
    let (is_item, is_use) = (among(&ITEMS), among(&["use"]));
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        if token.is(";") || (token.is(",") && !is_item) {
            return at + 1;
        }
        if token.is("}") {
            return at;
        }
        let is_body = token.is("{");
        if is_body || token.is("(") || token.is("[") {
            at += group(&tokens[at..]);
            if is_body && !is_use {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// How many tokens there are of the bracketed group at the beginning.
fn group(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Words and signs, without comments and literals.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |character: char| character == '_' || character.is_alphanumeric();
        if let Some(length) = comment(rest).or_else(|| literal(rest)) {
            rest = &rest[length..];
        } else if is_word(first) {
            let end = rest.find(|character| !is_word(character));
            let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
            tokens.push(Token::Word(word.to_owned()));
            rest = behind;
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Sign(first));
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    tokens
}

fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    text.starts_with("/*")
        .then(|| text.find("*/").map_or(text.len(), |end| end + 2))
}

/// The length in bytes of the string or character at the beginning.
fn literal(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r"].into_iter().find(|prefix| {
        let behind = text.strip_prefix(prefix);
        behind.is_some_and(|behind| behind.trim_start_matches('#').starts_with('"'))
    });
    let prefix = prefix.unwrap_or_default();
    let body = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", &body[..hashes]);
        let inside = &body[hashes + 1..];
        let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        return Some(prefix.len() + hashes + 1 + length);
    }
    let quote = body.chars().next().filter(|first| "\"'".contains(*first))?;
    let mut characters = body.char_indices().skip(1);
    if quote == '\'' {
        let mut ahead = body[1..].chars();
        let is_escape = ahead.next() == Some('\\');
        // Otherwise it is a lifetime, whose mark is a sign like any.
        if !is_escape && ahead.next() != Some('\'') {
            return None;
        }
    }
    while let Some((at, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return Some(prefix.len() + at + 1);
        }
    }
    Some(text.len())
}
