//! wifi.toml: the networks that a board may join, and what wpa_supplicant is told of them. Pure.
//!
//! ```toml
//! country = "DE"
//!
//! [[network]]
//! ssid = "Küche"
//! password = "8 to 63 characters, or 64 hexadecimal digits"
//! hidden = false
//! ```

use std::fmt::Write;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, key_at, line_of};

/// Bytes of a network's name at most (IEEE 802.11-2020, 9.4.2.2).
const LONGEST_SSID: usize = 32;
/// Bytes of a passphrase (IEEE 802.11-2020, J.4.1).
const PASSPHRASE: std::ops::RangeInclusive<usize> = 8..=63;
/// Hexadecimal digits of a key of 256 bits that is given instead.
const KEY_DIGITS: usize = 64;

/// The networks, the preferred one first.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WifiConfig {
    country: Option<Spanned<String>>,
    network: Vec<Network>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    ssid: Spanned<String>,
    password: Option<Spanned<String>>,
    #[serde(default)]
    hidden: bool,
}

impl WifiConfig {
    /// Reads and checks the content of the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`] with line and key of the first mistake. It never tells a password.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mistake = |offset: Option<usize>, reason: &str| {
            let line = offset.map(|offset| line_of(text, offset));
            let key = line.map_or_else(String::new, |line| key_at(text, line));
            // A parser's message may show the value, such as digits without quotes.
            let hides = key.ends_with("password") && !reason.starts_with("must");
            let reason = if hides { "must be text in quotes" } else { reason };
            ConfigError { file: Some(path.to_owned()), line, key, reason: reason.to_owned() }
        };
        let config: Self = toml::from_str(text)
            .map_err(|error| mistake(error.span().map(|span| span.start), error.message()))?;
        match config.fault() {
            Some((offset, reason)) => Err(mistake(Some(offset), &reason)),
            None => Ok(config),
        }
    }

    /// The first value that no network can have, by its place in the text, and why.
    fn fault(&self) -> Option<(usize, String)> {
        let country = self.country.iter().filter_map(|country| {
            let two = country.get_ref();
            let good = two.len() == 2 && two.bytes().all(|letter| letter.is_ascii_alphabetic());
            (!good).then(|| (country.span().start, "must be two letters, such as \"DE\"".to_owned()))
        });
        country.chain(self.network.iter().filter_map(Network::fault)).next()
    }

    /// The text of a wpa_supplicant.conf (wpa_supplicant.conf(5)), with a newline at the end.
    pub fn wpa_supplicant(&self) -> String {
        let mut text = String::from("# Made from wifi.toml: edit that file instead.\n");
        if let Some(country) = &self.country {
            let _ = writeln!(text, "country={}", country.get_ref().to_ascii_uppercase());
        }
        for (index, network) in self.network.iter().enumerate() {
            network.write(&mut text, self.network.len() - index);
        }
        text
    }
}

impl Network {
    fn fault(&self) -> Option<(usize, String)> {
        if !(1..=LONGEST_SSID).contains(&self.ssid.get_ref().len()) {
            return Some((self.ssid.span().start, format!("must be 1 to {LONGEST_SSID} bytes long")));
        }
        let password = self.password.as_ref()?;
        let (text, at) = (password.get_ref(), password.span().start);
        let (least, most) = (PASSPHRASE.start(), PASSPHRASE.end());
        if text.chars().any(char::is_control) {
            return Some((at, "must not contain control characters".into()));
        }
        (!is_key(text) && !PASSPHRASE.contains(&text.len())).then(|| {
            let lengths = format!("must be {least} to {most} bytes or {KEY_DIGITS} hexadecimal digits long");
            (at, format!("{lengths}; an open network has none"))
        })
    }

    /// Names go in hexadecimal digits, so that quotes, umlauts and `#` need no rule. In a quoted passphrase wpa_supplicant
    /// takes every character up to the last quote of the line as it stands.
    fn write(&self, text: &mut String, priority: usize) {
        let ssid: String = self.ssid.get_ref().bytes().map(|byte| format!("{byte:02x}")).collect();
        let _ = write!(text, "\nnetwork={{\n\tssid={ssid}\n\tpriority={priority}\n");
        if self.hidden {
            text.push_str("\tscan_ssid=1\n");
        }
        match self.password.as_ref().map(Spanned::get_ref) {
            None => text.push_str("\tkey_mgmt=NONE\n"),
            // WPA3 derives its key from the passphrase, so a ready key is for WPA2 alone.
            Some(key) if is_key(key) => _ = write!(text, "\tkey_mgmt=WPA-PSK\n\tpsk={key}\n"),
            Some(words) => {
                let _ = write!(text, "\tkey_mgmt=WPA-PSK SAE\n\tieee80211w=1\n\tpsk=\"{words}\"\n");
            }
        }
        text.push_str("}\n");
    }
}

fn is_key(password: &str) -> bool {
    password.len() == KEY_DIGITS && password.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<WifiConfig, ConfigError> {
        WifiConfig::parse(text, Path::new("wifi.toml"))
    }

    fn converted(text: &str) -> String {
        parse(text).unwrap().wpa_supplicant()
    }

    /// What wpa_supplicant reads of a line `key=value` (its config_file.c): a comment begins at the first `#` behind the
    /// last quote; blanks at the end go; a quoted value reaches from the first quote to the last.
    fn read_by_wpa_supplicant(line: &str) -> (String, Vec<u8>) {
        let line = line.trim_start_matches([' ', '\t']);
        let first = line.find('"');
        let last = first.and_then(|first| line.rfind('"').filter(|last| *last > first));
        let from = last.unwrap_or(0);
        let line = line[from..]
            .find('#')
            .map_or(line, |comment| &line[..from + comment])
            .trim_end_matches([' ', '\t']);
        let (key, value) = line.split_once('=').unwrap();
        let bytes = match value.strip_prefix('"') {
            Some(rest) => rest.as_bytes()[..rest.rfind('"').unwrap()].to_vec(),
            None if key == "ssid" => (0..value.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&value[i..i + 2], 16).unwrap())
                .collect(),
            None => value.as_bytes().to_vec(),
        };
        (key.to_owned(), bytes)
    }

    fn value(text: &str, wanted: &str) -> Option<Vec<u8>> {
        let lines = text.lines().filter(|line| line.starts_with('\t')).map(read_by_wpa_supplicant);
        lines.into_iter().find_map(|(key, value)| (key == wanted).then_some(value))
    }

    #[test]
    fn a_network_with_a_passphrase_is_joined_by_wpa3_or_wpa2() {
        let text = converted("country = 'de'\n[[network]]\nssid = 'Home'\npassword = 'correct horse'\n");
        assert_eq!(
            text,
            "# Made from wifi.toml: edit that file instead.\ncountry=DE\n\nnetwork={\n\tssid=486f6d65\n\tpriority=1\n\t\
             key_mgmt=WPA-PSK SAE\n\tieee80211w=1\n\tpsk=\"correct horse\"\n}\n"
        );
    }

    #[test]
    fn the_first_network_is_preferred_and_hidden_ones_are_asked_for() {
        let text = converted("[[network]]\nssid = 'a'\n[[network]]\nssid = 'b'\nhidden = true\n");
        let (first, second) = text.split_once("ssid=62").unwrap();
        assert!(first.contains("priority=2") && first.contains("key_mgmt=NONE"), "{text}");
        assert!(second.contains("priority=1") && second.contains("scan_ssid=1"), "{text}");
        assert!(!first.contains("scan_ssid") && !text.contains("psk="), "{text}");
    }

    #[test]
    fn odd_names_and_passwords_arrive_as_they_are() {
        for (ssid, password) in [
            ("Küche", "pässwörter"),
            ("say \"hi\" # now", "a\"b\"c # d\""),
            ("back\\slash}", "\\\"quoted\\\""),
            ("network={", "\"\"\"\"\"\"\"\""),
            (" blanks ", " # blanks  "),
            ("ラジオ", "key=value;$(reboot)"),
            ("line\nbreak", "password"),
        ] {
            let text = converted(&format!("[[network]]\nssid = {ssid:?}\npassword = {password:?}\n"));
            assert_eq!(value(&text, "ssid").unwrap(), ssid.as_bytes());
            assert_eq!(value(&text, "psk").unwrap(), password.as_bytes());
        }
    }

    #[test]
    fn a_ready_key_goes_without_quotes_and_for_wpa2_alone() {
        let key = "0123456789abcdefABCDEF0123456789".repeat(2);
        let text = converted(&format!("[[network]]\nssid = 'x'\npassword = '{key}'\n"));
        assert!(text.contains(&format!("\tkey_mgmt=WPA-PSK\n\tpsk={key}\n")), "{text}");
        // A digit short, it is no key, and too long for a passphrase.
        assert!(parse(&format!("[[network]]\nssid = 'x'\npassword = '{}g'\n", &key[1..])).is_err());
    }

    #[test]
    fn mistakes_name_the_line_and_never_the_password() {
        for (text, line, key) in [
            ("country = 'Germany'\n", 1, "country"),
            ("country = 'D1'\n", 1, "country"),
            ("[[network]]\nssid = ''\n", 2, "network.ssid"),
            ("[[network]]\nssid = 'äöüäöüäöüäöüäöüäö'\n", 2, "network.ssid"),
            (
                "[[network]]\nssid = 'a'\n\n[[network]]\nssid = 'b'\npassword = 'secret7'\n",
                6,
                "network.password",
            ),
            ("[[network]]\nssid = 'a'\npassword = ''\n", 3, "network.password"),
            ("[[network]]\nssid = 'a'\npassword = \"secret\\nnetwork={\"\n", 3, "network.password"),
            ("[[network]]\nssid = 'a'\npassword = 5337455378\n", 3, "network.password"),
            ("[[network]]\nssid = 'a'\npasword = 'secret78'\n", 3, "network.pasword"),
            ("[[network]]\npassword = 'secret78'\n", 1, "network"),
            ("[wlan]\n", 1, "wlan"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.key.as_str()), (Some(line), key), "{text}: {error}");
            assert!(!error.to_string().contains("secret") && !error.to_string().contains("5337"), "{error}");
        }
    }

    #[test]
    fn without_networks_there_is_still_a_file() {
        assert_eq!(converted("").lines().count(), 1);
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_comes_out_as_it_went_in(ssid in "\\PC{0,40}", password in "\\PC{0,70}") {
            let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
            let text = format!("[[network]]\nssid = {}\npassword = {}\n", quote(&ssid), quote(&password));
            if let Ok(wifi) = parse(&text) {
                let text = wifi.wpa_supplicant();
                prop_assert_eq!(value(&text, "ssid").unwrap(), ssid.as_bytes());
                prop_assert_eq!(value(&text, "psk").unwrap(), password.as_bytes());
                prop_assert_eq!(text.lines().filter(|line| *line == "}").count(), 1);
            }
        }
    }
}
