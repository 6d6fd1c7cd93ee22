//! Text that XML and HTML take, whatever bytes a path has.

/// Escapes for text and for attributes. Control characters become the pictures of them, and what
/// XML has no place for the replacement character.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push_str("&#10;"),
            '\u{7f}' => escaped.push('\u{2421}'),
            control if control < ' ' => {
                escaped.extend(char::from_u32(0x2400 + u32::from(control)));
            }
            '\u{80}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// In one line.
pub fn one_line(text: &str) -> String {
    text.replace('\n', "\u{240a}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes_into_the_markup() {
        assert_eq!(escape("<a b='\"&\">"), "&lt;a b=&#39;&quot;&amp;&quot;&gt;");
        assert_eq!(escape("\u{1}\u{7f}\u{85}\u{ffff}ä"), "␁␡\u{fffd}\u{fffd}ä");
        assert_eq!(one_line("a\nb"), "a␊b");
    }
}
