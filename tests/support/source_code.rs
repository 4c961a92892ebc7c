//! Reads Rust source far enough to know which paths it names: comments, literals and test code left out.

use std::path::Path;

/// One token of code, and the line it stands on, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// An identifier, `::`, or one character; every literal is `""`.
    pub(crate) text: String,
    /// Line in the file.
    pub(crate) line: usize,
}

/// A path such as `crate::hls::Segment`, use trees expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodePath {
    /// Its segments; `*` for a glob.
    pub(crate) segments: Vec<String>,
    /// Line on which it begins.
    pub(crate) line: usize,
}

/// The code of a file: no comments, no literals, no items under `#[cfg(test)]`.
pub(crate) fn code(source: &str) -> Vec<Token> {
    without_tests(&tokens(source))
}

/// Every path of the code that has two segments at least or stands in a `use`.
pub(crate) fn paths(code: &[Token]) -> Vec<CodePath> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let begins = is_name(&code[at].text) && (at == 0 || code[at - 1].text != "::");
        let in_use = at > 0 && code[at - 1].text == "use";
        let goes_on = code.get(at + 1).is_some_and(|next| next.text == "::");
        if begins && (in_use || goes_on) {
            at = tree(code, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// `crate::…`, `skywave::…`, `self::…` and `super::…` from the crate's root on; `None` for any other path.
pub(crate) fn from_root(path: &[String], module: &[String]) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" | "skywave" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let above = rest.iter().take_while(|segment| *segment == "super").count();
            let base = &module[..module.len().saturating_sub(above + 1)];
            Some([base, &rest[above..]].concat())
        }
        _ => None,
    }
}

/// The module of a file below `src`: `hls/cmaf.rs` is `[hls, cmaf]`, `lib.rs` and `main.rs` are `[]`.
pub(crate) fn module_of(file: &Path) -> Vec<String> {
    let names = file.with_extension("");
    let names: Vec<_> = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if names == ["lib"] || names == ["main"] { Vec::new() } else { names }
}

/// Takes the tree that begins at `at`; returns where it ends.
fn tree(code: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<CodePath>) -> usize {
    let line = code.get(at).map_or(0, |token| token.line);
    let mut segments = prefix.to_vec();
    while let Some(token) = code.get(at) {
        match token.text.as_str() {
            "{" if segments.len() > prefix.len() || at > 0 && code[at - 1].text == "::" => {
                at += 1;
                while code.get(at).is_some_and(|token| token.text != "}") {
                    let end = tree(code, at, &segments, found);
                    // A comma, or anything that is no tree.
                    at = end.max(at) + usize::from(code.get(end).is_some_and(|token| token.text != "}"));
                }
                return at + 1;
            }
            "*" => {
                segments.push("*".into());
                at += 1;
                break;
            }
            name if is_name(name) => {
                segments.push(name.to_owned());
                at += 1;
            }
            _ => break,
        }
        match code.get(at) {
            Some(token) if token.text == "::" => at += 1,
            _ => break,
        }
    }
    if segments.len() > prefix.len() {
        found.push(CodePath { segments, line });
    }
    if code.get(at).is_some_and(|token| token.text == "as") { at + 2 } else { at }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn without_tests(tokens: &[Token]) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().map(|token| token.text.as_str()).take(MARK.len()).eq(MARK) {
            at = end_of_item(tokens, at + MARK.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Behind the item that begins at `at`: behind its `;`, or behind its braces.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let is_use = tokens[at..].iter().take(3).any(|token| token.text == "use");
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token.text == "}" && !is_use {
                    break;
                }
            }
            ";" if depth == 0 => break,
            _ => {}
        }
    }
    at
}

fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let length = length_of_next(rest, first);
        let (text, after) = rest.split_at(length);
        let is_comment = text.starts_with("//") || text.starts_with("/*");
        if !first.is_whitespace() && !is_comment {
            let text = if is_literal(text) { "\"\"" } else { text.trim_start_matches("r#") };
            tokens.push(Token { text: text.to_owned(), line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

fn is_literal(text: &str) -> bool {
    text.ends_with(['"', '\'']) || (text.ends_with('#') && text.len() > 1)
}

fn length_of_next(rest: &str, first: char) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return length_of_comment(rest);
    }
    if let Some(length) = length_of_string(rest).or_else(|| length_of_char(rest)) {
        return length;
    }
    let skipped = if rest.starts_with("r#") { 2 } else { 0 };
    let name =
        rest[skipped..].find(|c: char| !(c.is_alphanumeric() || c == '_')).map(|length| length + skipped);
    match name.unwrap_or(rest.len()) {
        0 if rest.starts_with("::") => 2,
        0 => first.len_utf8(),
        length => length,
    }
}

/// Block comments nest (Rust reference, "Comments").
fn length_of_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// String, byte string, C string, and each of them raw.
fn length_of_string(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|rest| {
            let bare = if prefix.ends_with('r') { rest.trim_start_matches('#') } else { rest };
            bare.starts_with('"')
        })
    })?;
    let body = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let content = &body[hashes + 1..];
        return Some(
            prefix.len() + hashes + 1 + content.find(&end).map_or(content.len(), |at| at + end.len()),
        );
    }
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            '"' if !escaped => return Some(prefix.len() + at + 1),
            _ => escaped = c == '\\' && !escaped,
        }
    }
    Some(rest.len())
}

/// A character, and not a lifetime.
fn length_of_char(rest: &str) -> Option<usize> {
    let prefix = usize::from(rest.starts_with("b'"));
    let body = rest[prefix..].strip_prefix('\'')?;
    let mut characters = body.char_indices();
    let (_, first) = characters.next()?;
    if first != '\\' {
        let (end, second) = characters.next()?;
        return (second == '\'').then_some(prefix + 1 + end + 1);
    }
    characters.next()?;
    characters.find(|(_, c)| *c == '\'').map(|(end, _)| prefix + 1 + end + 1)
}
