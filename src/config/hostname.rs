//! The name of the machine in the network, made from the station's. Pure.

/// Length of a DNS label at most (RFC 1035, section 2.3.4).
const LONGEST: usize = 63;
/// Name of a station whose own leaves nothing.
const FALLBACK: &str = "skywave";

/// The DNS label for a station of this name: a-z, 0-9 and single hyphens, 1 to 63 of them (RFC 1123, section 2.1).
/// Letters that Latin script adds are spelt out; everything else parts words.
pub fn hostname(name: &str) -> String {
    let mut label = String::new();
    for letter in name.chars().flat_map(char::to_lowercase) {
        match letter {
            'a'..='z' | '0'..='9' => label.push(letter),
            // A combining mark, such as the dots of an ä that is written as two characters.
            '\u{300}'..='\u{36f}' | '\'' | '\u{2019}' => {}
            _ => match spelt(letter) {
                "" if label.is_empty() || label.ends_with('-') => {}
                "" => label.push('-'),
                letters => label.push_str(letters),
            },
        }
    }
    label.truncate(LONGEST);
    let label = label.trim_end_matches('-');
    // The machine itself answers to that one, everywhere.
    if label.is_empty() || label == "localhost" { FALLBACK.to_owned() } else { label.to_owned() }
}

/// Small letters of Latin-1 and Latin Extended-A in a-z; empty for what is none.
fn spelt(letter: char) -> &'static str {
    match letter {
        'ä' | 'æ' => "ae",
        'ö' | 'ø' | 'œ' => "oe",
        'ü' => "ue",
        'ß' => "ss",
        'å' => "aa",
        'þ' => "th",
        'à' | 'á' | 'â' | 'ã' | 'ā' | 'ă' | 'ą' => "a",
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => "c",
        'ð' | 'ď' | 'đ' => "d",
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => "e",
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => "g",
        'ĥ' | 'ħ' => "h",
        'ì' | 'í' | 'î' | 'ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' => "i",
        'ĵ' => "j",
        'ķ' => "k",
        'ĺ' | 'ļ' | 'ľ' | 'ŀ' | 'ł' => "l",
        'ñ' | 'ń' | 'ņ' | 'ň' => "n",
        'ò' | 'ó' | 'ô' | 'õ' | 'ō' | 'ŏ' | 'ő' => "o",
        'ŕ' | 'ŗ' | 'ř' => "r",
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => "s",
        'ţ' | 'ť' | 'ŧ' | 'ț' => "t",
        'ù' | 'ú' | 'û' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => "u",
        'ŵ' => "w",
        'ý' | 'ÿ' | 'ŷ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_become_labels_that_people_would_type() {
        for (name, label) in [
            ("Skywave", "skywave"),
            ("Radio Küche", "radio-kueche"),
            ("Ça va? Ça ira!", "ca-va-ca-ira"),
            ("Łódź FM 101.4", "lodz-fm-101-4"),
            ("Anna's Radio", "annas-radio"),
            ("  --  jazz -- ", "jazz"),
            ("STRASSE ẞ", "strasse-ss"),
            ("Ku\u{308}che", "kuche"),
            ("İstanbul", "istanbul"),
        ] {
            assert_eq!(hostname(name), label, "{name}");
        }
    }

    #[test]
    fn a_name_that_leaves_nothing_is_skywave() {
        for name in ["", "ラジオ", "🎵🎵", "---", "localhost", "LocalHost!"] {
            assert_eq!(hostname(name), "skywave", "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_gives_a_label(name in "\\PC{0,80}") {
            let label = hostname(&name);
            prop_assert!((1..=63).contains(&label.len()));
            prop_assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            prop_assert!(!label.starts_with('-') && !label.ends_with('-') && !label.contains("--"));
            prop_assert_eq!(hostname(&label), label);
        }
    }
}
