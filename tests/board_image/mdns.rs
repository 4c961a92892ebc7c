//! Multicast DNS over a board's network port: a question as a frame, and the answers in a capture file (pcap, RFC 6762,
//! RFC 1035).

use std::net::Ipv4Addr;

/// A host's address.
const A: u16 = 1;
/// A service's instances.
const PTR: u16 = 12;
const PORT: u16 = 5353;
/// Length of a capture file's head, and of that of each packet.
const HEAD: usize = 24;
const PACKET_HEAD: usize = 16;
const ETHERNET: usize = 14;

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The number that the question had; 0 in what was told to all.
    pub question: u16,
    pub name: String,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Address(Ipv4Addr),
    Instance(String),
    Other,
}

/// A question for the address of a host, put to all by whoever has an address, from a port of its own: the answer goes there
/// alone and has the question's number (RFC 6762, section 6.7). An Ethernet frame with IPv4 (RFC 791) and UDP (RFC 768).
pub fn question(number: u16, name: &str, from: Ipv4Addr) -> Vec<u8> {
    /// Where all listen, and the hardware's address of it (RFC 1112, section 6.4).
    const ALL: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
    const ALL_MAC: [u8; 6] = [1, 0, 0x5e, 0, 0, 251];
    const ONES_OWN: u16 = 0xd000;
    let message = ask(number, name);
    let of_udp = 8 + message.len() as u16;
    let mut ip = [&[0x45, 0][..], &(20 + of_udp).to_be_bytes(), &[0, 0, 0, 0, 255, 17, 0, 0]].concat();
    ip.extend(from.octets().into_iter().chain(ALL.octets()));
    let checksum = checksum(&ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    // A locally administered sender. UDP goes without a checksum.
    let mut frame = [&ALL_MAC[..], &[2, 0, 0, 0, 0, 99, 8, 0], &ip].concat();
    frame.extend([ONES_OWN, PORT, of_udp, 0].map(u16::to_be_bytes).concat());
    frame.extend(message);
    frame
}

/// A message that asks for a host's address.
fn ask(number: u16, name: &str) -> Vec<u8> {
    let mut message = [number, 0, 1, 0, 0, 0].map(u16::to_be_bytes).concat();
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    message.push(0);
    // The class is the internet's.
    message.extend([A, 1].map(u16::to_be_bytes).concat());
    message
}

/// Of an IPv4 header (RFC 1071).
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// All answers that a capture file holds. Its last packet may be incomplete.
pub fn answers(capture: &[u8]) -> Vec<Answer> {
    let mut found = Vec::new();
    let mut rest = capture.get(HEAD..).unwrap_or_default();
    while let Some(length) = rest.get(8..12) {
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let Some(packet) = rest.get(PACKET_HEAD..PACKET_HEAD + length) else { break };
        found.extend(message(packet).and_then(records).unwrap_or_default());
        rest = &rest[PACKET_HEAD + length..];
    }
    found
}

/// The DNS message of an Ethernet frame with IPv4 and UDP from mDNS' port.
fn message(frame: &[u8]) -> Option<&[u8]> {
    let ip = frame.get(ETHERNET..).filter(|_| frame[12..14] == [8, 0])?;
    let udp = ip.get(usize::from(ip.first()? & 15) * 4..).filter(|_| ip.get(9) == Some(&17))?;
    (number(udp, 0)? == PORT).then(|| udp.get(8..))?
}

/// The records of a message that is an answer.
fn records(message: &[u8]) -> Option<Vec<Answer>> {
    let (question, flags) = (number(message, 0)?, number(message, 2)?);
    if flags & 0x8000 == 0 {
        return None;
    }
    let mut at = 12;
    for _ in 0..number(message, 4)? {
        at = name(message, at)?.1 + 4;
    }
    let mut found = Vec::new();
    for _ in 0..number(message, 6)? {
        let (name_of, behind) = name(message, at)?;
        let (kind, length) = (number(message, behind)?, usize::from(number(message, behind + 8)?));
        let data = behind + 10;
        let value = match (kind, message.get(data..data + length)?) {
            (A, &[a, b, c, d]) => Value::Address(Ipv4Addr::new(a, b, c, d)),
            (PTR, _) => Value::Instance(name(message, data)?.0),
            _ => Value::Other,
        };
        found.push(Answer { question, name: name_of, value });
        at = data + length;
    }
    Some(found)
}

/// The name at a place, and where it ends. Pointers lead back, so no message can hold it up.
fn name(message: &[u8], at: usize) -> Option<(String, usize)> {
    let (mut labels, mut at, mut end, mut limit) = (Vec::new(), at, None, at);
    loop {
        let length = usize::from(*message.get(at)?);
        if length == 0 {
            return Some((labels.join("."), end.unwrap_or(at + 1)));
        }
        if length >= 0xc0 {
            end = end.or(Some(at + 2));
            let target = usize::from(number(message, at)? & 0x3fff);
            if target >= limit {
                return None;
            }
            (at, limit) = (target, target);
            continue;
        }
        labels.push(String::from_utf8_lossy(message.get(at + 1..at + 1 + length)?).into_owned());
        at += 1 + length;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().expect("two bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer of a board: _http._tcp.local is at x._http._tcp.local, x.local at 10.0.2.15.
    const ANSWER: &[u8] =
        b"QW\x84\0\0\0\0\x02\0\0\0\0\x05_http\x04_tcp\x05local\0\0\x0c\0\x01\0\0\0x\0\x04\x01x\xc0\x0c\
        \x01x\xc0\x17\0\x01\x80\x01\0\0\0x\0\x04\x0a\0\x02\x0f";

    fn capture(from: u16, message: &[u8]) -> Vec<u8> {
        let mut frame = [&[0; 12][..], &[8, 0, 0x45], &[0; 8], &[17], &[0; 10]].concat();
        frame.extend([from, 5353, 0, 0].map(u16::to_be_bytes).concat());
        frame.extend(message);
        let length = (frame.len() as u32).to_le_bytes();
        [&[0; HEAD][..], &[0; 8], &length, &length, &frame].concat()
    }

    #[test]
    fn a_question_is_a_frame_to_all_with_a_right_checksum() {
        let frame = question(0x5157, "x.local", Ipv4Addr::new(10, 0, 2, 2));
        assert_eq!(message(&frame), None, "a question's port is not that of answers");
        assert_eq!(
            checksum(&frame[ETHERNET..ETHERNET + 20]),
            0,
            "a header with its checksum adds up to nothing"
        );
        assert_eq!(usize::from(number(&frame, ETHERNET + 2).unwrap()), frame.len() - ETHERNET);
        assert_eq!(usize::from(number(&frame, ETHERNET + 24).unwrap()), frame.len() - ETHERNET - 20);
        assert_eq!(frame[ETHERNET + 28..], ask(0x5157, "x.local"));
    }

    #[test]
    fn answers_are_read_with_their_compressed_names() {
        let found = answers(&capture(PORT, ANSWER));
        let instance = Value::Instance("x._http._tcp.local".into());
        let address = Value::Address(Ipv4Addr::new(10, 0, 2, 15));
        let answer = |name: &str, value| Answer { question: 0x5157, name: name.into(), value };
        assert_eq!(found, [answer("_http._tcp.local", instance), answer("x.local", address)]);
    }

    #[test]
    fn questions_other_ports_and_what_is_cut_off_are_no_answers() {
        assert_eq!(answers(&capture(PORT, &ask(1, "x.local"))), []);
        assert_eq!(answers(&capture(53, ANSWER)), []);
        let whole = capture(PORT, ANSWER);
        for length in 0..whole.len() {
            assert_eq!(answers(&whole[..length]), [], "{length}");
        }
        // A pointer to itself.
        let looped = b"QW\x84\0\0\0\0\x01\0\0\0\0\xc0\x0c\0\x01\0\x01\0\0\0x\0\x04\x0a\0\x02\x0f";
        assert_eq!(answers(&capture(PORT, looped)), []);
    }
}
