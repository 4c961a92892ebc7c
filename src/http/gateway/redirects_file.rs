//! `_redirects`: rules for paths that a site does not have (pure). Web redirects file specification,
//! <https://specs.ipfs.tech/http-gateways/web-redirects-file/>.

use crate::http::request_path;

/// The largest file ("Max File Size").
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// The status of a rule that names none.
const DEFAULT_STATUS: u16 = 301;

/// Every status that a rule may have ("Status").
const STATUSES: [u16; 9] = [200, 301, 302, 303, 307, 308, 404, 410, 451];

/// The placeholder of what an asterisk matched.
const SPLAT: &str = "splat";

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RulesError {
    #[error("redirects file size cannot exceed {MAX_BYTES} bytes")]
    TooLarge,
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("line {line}: {reason}")]
    Line { line: usize, reason: LineError },
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineError {
    #[error("a rule has the form: from to [status]")]
    Form,
    #[error("from {0:?} does not begin with a slash, or is not percent-encoded as a path")]
    From(String),
    #[error("an asterisk stands at the end of from alone, and once")]
    Splat,
    #[error("the placeholder :{0} stands twice in from")]
    Twice(String),
    #[error("to {0:?} is neither a path nor an http, https, ipfs or ipns address")]
    To(String),
    #[error("the content of status {0} is a path of the site")]
    Elsewhere(u16),
    #[error("the status {0:?} is none of 200, 301, 302, 303, 307, 308, 404, 410 and 451")]
    Status(String),
}

/// The rules of a site, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules(Vec<Rule>);

/// What to do about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) status: u16,
    /// A path that begins with a slash, or an address, percent-encoded; placeholders are filled in.
    pub(super) to: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    from: Vec<Part>,
    /// What stands before the asterisk in its segment, where there is one.
    splat: Option<String>,
    to: String,
    status: u16,
}

/// A segment of `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// Decoded.
    Text(String),
    Placeholder(String),
}

impl Rules {
    pub(super) fn parse(file: &[u8]) -> Result<Rules, RulesError> {
        if file.len() > MAX_BYTES {
            return Err(RulesError::TooLarge);
        }
        let text = std::str::from_utf8(file).map_err(|_| RulesError::NotUtf8)?;
        let mut rules = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let rule = Rule::parse(line);
                rules.push(rule.map_err(|reason| RulesError::Line { line: number + 1, reason })?);
            }
        }
        Ok(Rules(rules))
    }

    /// The first rule that matches the decoded segments of a path; the query of the request goes along in a redirect.
    pub(super) fn find(&self, path: &[String], query: &str) -> Option<Outcome> {
        self.0.iter().find_map(|rule| {
            let to = fill(&rule.to, &rule.matches(path)?);
            let moves = (300..400).contains(&rule.status);
            Some(Outcome { status: rule.status, to: if moves { with_query(&to, query) } else { to } })
        })
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Rule, LineError> {
        let mut fields = line.split_ascii_whitespace();
        let (Some(from), Some(to), status, None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(LineError::Form);
        };
        let status = match status {
            None => DEFAULT_STATUS,
            Some(text) => {
                let known = text.parse().ok().filter(|status| STATUSES.contains(status));
                known.ok_or_else(|| LineError::Status(text.to_owned()))?
            }
        };
        if !to.starts_with('/') {
            let schemes = ["http://", "https://", "ipfs://", "ipns://"];
            if !schemes.iter().any(|scheme| to.starts_with(scheme)) {
                return Err(LineError::To(to.to_owned()));
            }
            if !(300..400).contains(&status) {
                return Err(LineError::Elsewhere(status));
            }
        }
        let (from, splat) = parse_from(from)?;
        Ok(Rule { from, splat, to: to.to_owned(), status })
    }

    /// The placeholders and what they stand for, where the rule matches.
    fn matches<'r>(&'r self, path: &[String]) -> Option<Vec<(&'r str, String)>> {
        let fits = match &self.splat {
            None => path.len() == self.from.len(),
            Some(before) => path.len() >= self.from.len() + usize::from(!before.is_empty()),
        };
        let mut values = Vec::new();
        for (part, segment) in self.from.iter().zip(path).take_while(|_| fits) {
            match part {
                Part::Text(text) if text == segment => {}
                Part::Text(_) => return None,
                Part::Placeholder(name) => values.push((name.as_str(), request_path::encode(segment))),
            }
        }
        if let Some(before) = self.splat.as_ref().filter(|_| fits) {
            let rest = path[self.from.len()..].join("/");
            let rest = rest.strip_prefix(before.as_str())?;
            let encoded: Vec<_> = rest.split('/').map(request_path::encode).collect();
            values.push((SPLAT, encoded.join("/")));
        }
        fits.then_some(values)
    }
}

/// The segments of `from`, and what stands before its asterisk.
fn parse_from(text: &str) -> Result<(Vec<Part>, Option<String>), LineError> {
    let bad = || LineError::From(text.to_owned());
    let path = text.strip_prefix('/').ok_or_else(bad)?;
    let (path, starred) = path.strip_suffix('*').map_or((path, false), |path| (path, true));
    if path.contains('*') {
        return Err(LineError::Splat);
    }
    let mut segments: Vec<&str> = path.split('/').collect();
    // Behind the last slash: nothing, or what stands before the asterisk.
    let before = if starred || path.ends_with('/') || path.is_empty() { segments.pop() } else { None };
    let mut parts = Vec::new();
    for segment in segments {
        let part = match segment.strip_prefix(':') {
            Some(name) if !name.is_empty() => Part::Placeholder(name.to_owned()),
            _ => Part::Text(request_path::decode(segment).map_err(|_| bad())?),
        };
        if let Part::Placeholder(name) = &part
            && (parts.contains(&part) || (starred && name == SPLAT))
        {
            return Err(LineError::Twice(name.clone()));
        }
        parts.push(part);
    }
    let decoded = request_path::decode(before.unwrap_or_default()).map_err(|_| bad())?;
    Ok((parts, starred.then_some(decoded)))
}

/// `to` with its placeholders filled in; of two names that begin alike the longer one counts.
fn fill(to: &str, values: &[(&str, String)]) -> String {
    let mut filled = String::with_capacity(to.len());
    let mut rest = to;
    while let Some((before, after)) = rest.split_once(':') {
        filled.push_str(before);
        let known = values.iter().filter(|(name, _)| after.starts_with(name));
        match known.max_by_key(|(name, _)| name.len()) {
            Some((name, value)) => {
                filled.push_str(value);
                rest = &after[name.len()..];
            }
            None => {
                filled.push(':');
                rest = after;
            }
        }
    }
    filled + rest
}

/// The address with the query of a request, whose parameters win over those of the address ("Query Parameters").
fn with_query(address: &str, query: &str) -> String {
    if query.is_empty() {
        return address.to_owned();
    }
    let (address, fragment) = address.split_once('#').map_or((address, None), |(a, f)| (a, Some(f)));
    let (path, own) = address.split_once('?').unwrap_or((address, ""));
    let name = |pair: &str| pair.split_once('=').map_or(pair, |(name, _)| name).to_owned();
    let given: Vec<String> = query.split('&').map(name).collect();
    let kept = own.split('&').filter(|pair| !pair.is_empty() && !given.contains(&name(pair)));
    let pairs: Vec<&str> = kept.chain([query]).collect();
    let fragment = fragment.map_or_else(String::new, |fragment| format!("#{fragment}"));
    format!("{path}?{}{fragment}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(file: &str, path: &str) -> Option<(u16, String)> {
        let path = request_path::parse(path).unwrap();
        let found = Rules::parse(file.as_bytes()).unwrap().find(&path.segments, "");
        found.map(|outcome| (outcome.status, outcome.to))
    }

    fn moved(file: &str, path: &str) -> String {
        find(file, path).map_or_else(String::new, |(_, to)| to)
    }

    /// The example of the specification.
    const EXAMPLE: &str = "/redirect-one /one.html\n/301-redirect-one /one.html 301\n\
        /302-redirect-two /two.html 302\n/200-index /index.html 200\n\
        /posts/:year/:month/:day/:title /articles/:year/:month/:day/:title 301\n\
        /splat/* /redirected-splat/:splat 301\n/not-found/* /404.html 404\n\
        /gone/* /410.html 410\n/unavail/* /451.html 451\n/* /index.html 200";

    #[test]
    fn the_first_rule_that_matches_counts() {
        for (path, status, to) in [
            ("/redirect-one", 301, "/one.html"),
            ("/redirect-one/", 301, "/one.html"),
            ("/302-redirect-two", 302, "/two.html"),
            ("/200-index", 200, "/index.html"),
            ("/posts/2022/01/01/hello-world", 301, "/articles/2022/01/01/hello-world"),
            ("/splat/a/one.html", 301, "/redirected-splat/a/one.html"),
            ("/not-found/x", 404, "/404.html"),
            ("/gone/x", 410, "/410.html"),
            ("/unavail/x", 451, "/451.html"),
            ("/posts/2022/01", 200, "/index.html"),
            ("/", 200, "/index.html"),
        ] {
            assert_eq!(find(EXAMPLE, path), Some((status, to.to_owned())), "{path}");
        }
        assert_eq!(find("/a /b", "/c"), None);
        assert_eq!(find("", "/c"), None);
    }

    #[test]
    fn comments_blank_lines_and_line_ends_of_either_kind_are_left_out() {
        let file = "# /a /wrong\r\n\r\n  \t/a\t\t/right   302 \r\n#\n/b /last";
        assert_eq!(find(file, "/a"), Some((302, "/right".into())));
        assert_eq!(find(file, "/b"), Some((301, "/last".into())));
    }

    #[test]
    fn placeholders_match_one_segment_and_an_asterisk_the_rest() {
        assert_eq!(moved("/:a/:b /:b/:a/:b", "/x/y"), "/y/x/y");
        assert_eq!(moved("/:a/:b /:b", "/x"), "");
        assert_eq!(moved("/:a/:b /:b", "/x/y/z"), "");
        assert_eq!(moved("/:a/:ab /:ab-:a:", "/x/y"), "/y-x:");
        assert_eq!(moved("/a/* /b/:splat", "/a"), "/b/");
        assert_eq!(moved("/a/* /b/:splat", "/ab"), "");
        assert_eq!(moved("/a* /b/:splat", "/abc/d"), "/b/bc/d");
        assert_eq!(moved("/a* /b/:splat", "/b"), "");
        assert_eq!(moved("/a/ /b", "/a"), "/b");
        assert_eq!(moved("/ /b", "/"), "/b");
        assert_eq!(moved("/go/:host https://:host.example/:none", "/go/a"), "https://a.example/:none");
    }

    #[test]
    fn what_a_client_sends_is_encoded_where_it_is_filled_in() {
        assert_eq!(moved("/caf%C3%A9/:x /b/:x", "/caf%C3%A9/%22X%3f%23"), "/b/%22X%3F%23");
        assert_eq!(moved("/a/* /b?q=:splat", "/a/x%26y/z"), "/b?q=x%26y/z");
    }

    #[test]
    fn the_query_of_the_request_goes_along_and_wins() {
        let with = |file: &str, query: &str| {
            let rules = Rules::parse(file.as_bytes()).unwrap();
            rules.find(&["a".to_owned()], query).unwrap().to
        };
        assert_eq!(with("/a /b", "x=1&y"), "/b?x=1&y");
        assert_eq!(with("/a /b?x=0&z=2#part", "x=1&y"), "/b?z=2&x=1&y#part");
        assert_eq!(with("/a https://example.net/b?s=1 302", "q"), "https://example.net/b?s=1&q");
        assert_eq!(with("/a /b 200", "x=1"), "/b");
    }

    #[test]
    fn mistakes_are_named_by_their_line() {
        let reason = |line: &str| match Rules::parse(format!("/ok /ok\n{line}").as_bytes()) {
            Err(RulesError::Line { line: 2, reason }) => reason,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(reason("/a"), LineError::Form);
        assert_eq!(reason("/a /b 301 more"), LineError::Form);
        assert_eq!(reason("/a /b 301!"), LineError::Status("301!".into()));
        assert_eq!(reason("/a /b 201"), LineError::Status("201".into()));
        assert_eq!(reason("a /b"), LineError::From("a".into()));
        assert_eq!(reason("/%zz /b"), LineError::From("/%zz".into()));
        assert_eq!(reason("/a/*/b /b"), LineError::Splat);
        assert_eq!(reason("/a/** /b"), LineError::Splat);
        assert_eq!(reason("/:a/:b/:a /b"), LineError::Twice("a".into()));
        assert_eq!(reason("/:splat/* /b"), LineError::Twice("splat".into()));
        assert_eq!(reason("/a b"), LineError::To("b".into()));
        assert_eq!(reason("/a javascript:alert(1)"), LineError::To("javascript:alert(1)".into()));
        assert_eq!(reason("/a https://example.org 200"), LineError::Elsewhere(200));
        assert_eq!(Rules::parse(b"/a /\xff"), Err(RulesError::NotUtf8));
        assert!(Rules::parse(&[b'\n'; MAX_BYTES]).is_ok());
        assert_eq!(Rules::parse(&[b'\n'; MAX_BYTES + 1]), Err(RulesError::TooLarge));
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused_and_no_path_gets_out_of_an_encoded_address(
            file in "([/:a*#?= .\\n%-]|200|404|301){0,80}",
            path in "/[a/%0dA:?.\u{e4}]{0,20}",
        ) {
            if let (Ok(rules), Ok(path)) = (Rules::parse(file.as_bytes()), request_path::parse(&path))
                && let Some(outcome) = rules.find(&path.segments, "a=b")
            {
                prop_assert!(STATUSES.contains(&outcome.status));
                prop_assert!(!outcome.to.contains(['\r', '\n', '\u{e4}']), "{}", outcome.to);
            }
        }
    }
}
