//! The box structure of ISO/IEC 14496-12 section 4.2, read without tolerance: every byte belongs to a field that
//! somebody reads, or the file is wrong.

use super::rules::{self, Violation, ensure};

/// A cursor over the bytes of one box, or of the file.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Offset in the file of `bytes[0]`.
    base: usize,
    /// Box path, as `moof/traf/trun`; empty for the file.
    place: String,
}

impl<'a> Fields<'a> {
    /// The fields of a whole file.
    pub fn of_file(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, base: 0, place: String::new() }
    }

    /// Box path of these fields.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Bytes not yet read.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Offset in the file of the next byte.
    pub fn offset(&self) -> usize {
        self.base + self.at
    }

    /// The next bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let wanted = format!("{count} bytes more at offset {} of {:?}", self.offset(), self.place);
        ensure(count <= self.left(), rules::BOX_SYNTAX, format!("{} bytes", self.left()), wanted)?;
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// The next bytes as fields of their own.
    pub fn slice(&mut self, count: usize) -> Result<Self, Violation> {
        let base = self.offset();
        Ok(Self { bytes: self.take(count)?, at: 0, base, place: self.place.clone() })
    }

    /// An unsigned integer of up to eight bytes, big-endian.
    pub fn uint(&mut self, bytes: usize) -> Result<u64, Violation> {
        Ok(self.take(bytes)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// unsigned int(8)
    pub fn u8(&mut self) -> Result<u8, Violation> {
        Ok(self.take(1)?[0])
    }

    /// unsigned int(32)
    pub fn u32(&mut self) -> Result<u32, Violation> {
        Ok(self.uint(4)? as u32)
    }

    /// A NUL-terminated UTF-8 string.
    pub fn string(&mut self) -> Result<&'a str, Violation> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == 0);
        let text = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok());
        let text = text.ok_or_else(|| {
            Violation::new(rules::BOX_SYNTAX, format!("no string in {}", self.place), "UTF-8 and a NUL")
        })?;
        self.at += text.len() + 1;
        Ok(text)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    /// A field of the given width that can have one value only.
    pub fn constant(&mut self, bytes: usize, value: u64, name: &str) -> Result<(), Violation> {
        let found = self.uint(bytes)?;
        self.field(found == value, name, found, value)
    }

    /// Reserved bytes.
    pub fn zeros(&mut self, bytes: usize) -> Result<(), Violation> {
        let found = self.take(bytes)?;
        self.field(found.iter().all(|byte| *byte == 0), "reserved", format!("{found:02x?}"), "zeros")
    }

    /// Holds a condition on a field of this box.
    pub fn field(
        &self,
        holds: bool,
        name: &str,
        found: impl std::fmt::Display,
        wanted: impl std::fmt::Display,
    ) -> Result<(), Violation> {
        ensure(holds, rules::BOX_FIELD, format!("{} {name} {found}", self.place), wanted)
    }

    /// All must have been read.
    pub fn end(&self) -> Result<(), Violation> {
        let found = format!("{} bytes left in {:?}", self.left(), self.place);
        ensure(self.left() == 0, rules::BOX_SYNTAX, found, "none")
    }

    /// The next box, or none at the end.
    pub fn next_box(&mut self) -> Result<Option<Mp4Box<'a>>, Violation> {
        if self.left() == 0 {
            return Ok(None);
        }
        let offset = self.offset();
        let mut size = u64::from(self.u32()?);
        let kind = self.take(4)?;
        let mut header = 8;
        if size == 1 {
            size = self.uint(8)?;
            header = 16;
        }
        let name = String::from_utf8_lossy(kind).into_owned();
        let room = header as u64 + self.left() as u64;
        let wanted = format!("{header} to {room}");
        let fits = (header as u64..=room).contains(&size);
        ensure(fits, rules::BOX_SYNTAX, format!("{name:?} of size {size} at offset {offset}"), wanted)?;
        let size = size as usize;
        let base = self.offset();
        let place = if self.place.is_empty() { name.clone() } else { format!("{}/{name}", self.place) };
        let fields = Fields { bytes: self.take(size - header)?, at: 0, base, place };
        Ok(Some(Mp4Box { name, offset, header, size, fields }))
    }

    /// All boxes up to the end, each of a name in `allowed` and as often as it says there.
    pub fn children(&mut self, allowed: &[(&str, Often)]) -> Result<Children<'a>, Violation> {
        let mut boxes = Vec::new();
        while let Some(child) = self.next_box()? {
            let known = allowed.iter().any(|(name, _)| *name == child.name);
            let wanted = format!("one of {:?}", allowed.iter().map(|(name, _)| *name).collect::<Vec<_>>());
            let found = format!("{:?} at offset {}", child.fields.place, child.offset);
            ensure(known, rules::BOX_UNKNOWN, found, wanted)?;
            boxes.push(child);
        }
        for (name, often) in allowed {
            let count = boxes.iter().filter(|child| child.name == *name).count();
            let found = format!("{count} {name:?} in {:?}", self.place);
            ensure(often.holds(count), rules::BOX_COUNT, found, format!("{often:?}"))?;
        }
        Ok(Children(boxes))
    }
}

/// How often a box may stand in its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Often {
    /// Exactly once.
    Once,
    /// Once or not at all.
    AtMostOnce,
    /// Any number of times.
    Any,
}

impl Often {
    fn holds(self, count: usize) -> bool {
        match self {
            Often::Once => count == 1,
            Often::AtMostOnce => count <= 1,
            Often::Any => true,
        }
    }
}

/// A box, its header read.
#[derive(Debug, Clone)]
pub struct Mp4Box<'a> {
    /// Four-character code.
    pub name: String,
    /// Where its header starts in the file.
    pub offset: usize,
    /// Bytes of the header: 8, or 16 with a large size.
    pub header: usize,
    /// Bytes with the header.
    pub size: usize,
    /// The payload.
    pub fields: Fields<'a>,
}

impl<'a> Mp4Box<'a> {
    /// Reads version and flags of a FullBox.
    pub fn full(mut self) -> Result<FullBox<'a>, Violation> {
        let version = self.fields.u8()?;
        let flags = self.fields.uint(3)? as u32;
        Ok(FullBox { version, flags, fields: self.fields })
    }

    /// Reads a FullBox that can have but one version and one set of flags.
    pub fn full_of(self, version: u8, flags: u32) -> Result<Fields<'a>, Violation> {
        let full = self.full()?;
        full.fields.field(full.version == version, "version", full.version, version)?;
        full.fields.field(
            full.flags == flags,
            "flags",
            format!("{:#x}", full.flags),
            format!("{flags:#x}"),
        )?;
        Ok(full.fields)
    }
}

/// A box with version and flags.
#[derive(Debug, Clone)]
pub struct FullBox<'a> {
    /// Version.
    pub version: u8,
    /// 24 bits of flags.
    pub flags: u32,
    /// What follows.
    pub fields: Fields<'a>,
}

/// The boxes in a container, counted.
#[derive(Debug, Clone)]
pub struct Children<'a>(pub Vec<Mp4Box<'a>>);

impl<'a> Children<'a> {
    /// The first box of that name, none if absent.
    pub fn find(&self, name: &str) -> Option<Mp4Box<'a>> {
        self.0.iter().find(|child| child.name == name).cloned()
    }

    /// A box that must be there.
    pub fn one(&self, name: &str) -> Result<Mp4Box<'a>, Violation> {
        self.find(name).ok_or_else(|| Violation::new(rules::BOX_COUNT, format!("no {name:?}"), "one"))
    }
}
