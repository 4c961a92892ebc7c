//! One element of a field that lists what a client takes, with its weight (RFC 9110 section 12.4.2). Pure.

/// A media type, a content coding or `*`, and what is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weighted<'a> {
    /// Never empty.
    pub(super) name: &'a str,
    /// Everything behind the first semicolon.
    pub(super) parameters: &'a str,
    /// In thousandths, 1,000 where none is given; `None` where it is no number.
    pub(super) weight: Option<u32>,
}

impl<'a> Weighted<'a> {
    /// Takes an element apart; `None` for an empty one.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (name, parameters) = text.split_once(';').unwrap_or((text, ""));
        let name = name.trim();
        let pairs = parameters.split(';').filter_map(|pair| pair.split_once('='));
        let given = pairs
            .map(|(key, value)| (key.trim(), value.trim()))
            .find(|(key, _)| key.eq_ignore_ascii_case("q"));
        let weight = match given {
            None => Some(1_000),
            Some((_, value)) => {
                value.parse::<f32>().ok().filter(|weight| weight.is_finite()).map(thousandths)
            }
        };
        (!name.is_empty()).then_some(Self { name, parameters, weight })
    }

    /// Whether it is about `name`, in whatever case.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

fn thousandths(weight: f32) -> u32 {
    (weight.clamp(0.0, 1.0) * 1_000.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(&str, &str, Option<u32>)> {
        Weighted::parse(text).map(|element| (element.name, element.parameters, element.weight))
    }

    #[test]
    fn an_element_has_a_name_parameters_and_a_weight_between_nothing_and_all() {
        assert_eq!(parse(" text/html "), Some(("text/html", "", Some(1_000))));
        assert_eq!(parse("gzip ; Q=0.5"), Some(("gzip", " Q=0.5", Some(500))));
        assert_eq!(parse("a/b;version=1;q=0.125"), Some(("a/b", "version=1;q=0.125", Some(125))));
        assert_eq!(parse("br;q=0"), Some(("br", "q=0", Some(0))));
        assert_eq!(parse("br;q=7"), Some(("br", "q=7", Some(1_000))));
        assert_eq!(parse("br;q=-1"), Some(("br", "q=-1", Some(0))));
        assert_eq!(parse(" ;q=1"), None);
    }

    #[test]
    fn a_weight_that_is_no_number_is_told_apart_from_none() {
        for text in ["br;q=much", "br;q=", "br;q=NaN", "br;q=inf"] {
            assert_eq!(Weighted::parse(text).map(|element| element.weight), Some(None), "{text}");
        }
    }
}
