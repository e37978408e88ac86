//! Layouts of classic tracepoints, read from `events/*/*/format`. Offsets and flag numbers differ
//! between kernels, so none is hard-wired.

use std::path::Path;
use std::{fs, io};

use fragscope_trace::gfp::GfpLayout;
use thiserror::Error;

/// Why a layout is not known.
#[derive(Debug, Error)]
pub enum FormatError {
    /// The kernel has no such tracepoint.
    #[error("tracepoint {event} can't be read: {source}")]
    Read {
        /// `category/name`.
        event: String,
        /// The cause.
        source: io::Error,
    },
    /// The tracepoint has other fields.
    #[error("tracepoint {event} has no field {field}; it has: {found}")]
    NoField {
        /// `category/name`.
        event: String,
        /// What was looked for.
        field: String,
        /// What is there.
        found: String,
    },
}

/// One field of a tracepoint's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its place in the record, bytes.
    pub offset: u32,
    /// Its size, bytes.
    pub size: u32,
}

/// The layout of one tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    event: String,
    fields: Vec<Field>,
    print: String,
}

impl Format {
    /// Reads the layout of `event` (`category/name`).
    ///
    /// # Errors
    /// [`FormatError::Read`] if the kernel has no such event.
    pub fn read(tracefs: &Path, event: &str) -> Result<Format, FormatError> {
        let path = tracefs.join("events").join(event).join("format");
        match fs::read_to_string(path) {
            Ok(text) => Ok(Format::parse(event, &text)),
            Err(source) => Err(FormatError::Read { event: event.to_owned(), source }),
        }
    }

    /// Understands the text of a `format` file. Lines it does not know are passed over.
    #[must_use]
    pub fn parse(event: &str, text: &str) -> Format {
        let print = text.lines().find_map(|l| l.strip_prefix("print fmt: ")).unwrap_or_default();
        Format {
            event: event.to_owned(),
            fields: text.lines().filter_map(parse_field).collect(),
            print: print.to_owned(),
        }
    }

    /// Offsets of the fields with these names.
    ///
    /// # Errors
    /// [`FormatError::NoField`] for the first that is not there.
    pub fn offsets<const N: usize>(&self, names: [&str; N]) -> Result<[u32; N], FormatError> {
        let mut offsets = [0; N];
        for (offset, name) in offsets.iter_mut().zip(names) {
            *offset = self.field(name)?.offset;
        }
        Ok(offsets)
    }

    /// Place of a field among the event's own, counted from 0.
    ///
    /// # Errors
    /// [`FormatError::NoField`] if it is not there.
    pub fn position(&self, name: &str) -> Result<u32, FormatError> {
        self.field(name)?;
        let own = self.fields.iter().filter(|f| !f.name.starts_with("common_"));
        Ok(own.take_while(|f| f.name != name).count() as u32)
    }

    fn field(&self, name: &str) -> Result<&Field, FormatError> {
        self.fields.iter().find(|f| f.name == name).ok_or_else(|| FormatError::NoField {
            event: self.event.clone(),
            field: name.to_owned(),
            found: self.fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(" "),
        })
    }

    /// The gfp flags that the event's print format names.
    #[must_use]
    pub fn gfp_layout(&self) -> GfpLayout {
        GfpLayout::from_names(named_flags(&self.print))
    }
}

/// `\tfield:unsigned long pfn;\toffset:8;\tsize:8;\tsigned:0;`
fn parse_field(line: &str) -> Option<Field> {
    let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
    let declaration = parts.next()?;
    let name = declaration.rsplit(' ').next()?.split('[').next()?.trim_start_matches('*');
    let mut offset = None;
    let mut size = None;
    for part in parts {
        match part.split_once(':') {
            Some(("offset", n)) => offset = n.parse().ok(),
            Some(("size", n)) => size = n.parse().ok(),
            _ => {}
        }
    }
    Some(Field { name: name.to_owned(), offset: offset?, size: size? })
}

/// The `{ expression, "NAME" }` pairs of a `__print_flags` list whose expression is one flag:
/// one shift (`((1UL)) << (10)`) or one hexadecimal literal (`0x400u`).
fn named_flags(print: &str) -> impl Iterator<Item = (&str, u64)> {
    print.split('{').skip(1).filter_map(|pair| {
        let (expression, rest) = pair.split_once('"')?;
        let name = rest.split('"').next()?;
        Some((name, single_flag(expression)?))
    })
}

fn single_flag(expression: &str) -> Option<u64> {
    if expression.contains('~') {
        return None;
    }
    let mut shifts = expression.split("<<").skip(1);
    let mut literals = expression.split("0x").skip(1);
    match (shifts.next(), shifts.next(), literals.next(), literals.next()) {
        (Some(shift), None, None, None) => 1u64.checked_shl(leading_number(shift, 10)? as u32),
        (None, None, Some(literal), None) => leading_number(literal, 16),
        _ => None,
    }
}

/// The number at the start of `text`, after blanks and parentheses.
fn leading_number(text: &str, radix: u32) -> Option<u64> {
    let text = text.trim_start_matches([' ', '(']);
    let end = text.find(|c: char| !c.is_digit(radix)).unwrap_or(text.len());
    u64::from_str_radix(&text[..end], radix).ok()
}

#[cfg(test)]
mod tests {
    use fragscope_trace::gfp::Gfp;

    use super::*;

    const ALLOC: &str = "name: mm_page_alloc\nID: 653\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
        \tfield:unsigned long pfn;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:char comm[16];\toffset:24;\tsize:16;\tsigned:0;\n\n\
        print fmt: \"x\", __print_flags(REC->gfp_flags, \"|\", \
        {( unsigned long)((( gfp_t)(((1UL)) << (10))|(((1UL)) << (11)))), \"__GFP_RECLAIM\"}, \
        {( unsigned long)(( gfp_t)((((1UL))) << (6))), \"__GFP_IO\"}, \
        {(unsigned long)(( gfp_t)0x400000u), \"__GFP_ACCOUNT\"}, \
        {(unsigned long)((0x40u|0x80u) & ~0x80u), \"GFP_STRANGE\"} ) : \"none\"\n";

    #[test]
    fn fields_are_found_by_name() {
        let format = Format::parse("kmem/mm_page_alloc", ALLOC);
        assert_eq!(format.offsets(["pfn", "comm"]).unwrap(), [8, 24]);
        assert_eq!(format.position("comm").unwrap(), 1);
        let error = format.offsets(["order"]).unwrap_err().to_string();
        assert!(error.contains("no field order; it has: common_type pfn comm"), "{error}");
    }

    #[test]
    fn only_single_flags_are_taken() {
        let layout = Format::parse("kmem/mm_page_alloc", ALLOC).gfp_layout();
        assert_eq!(layout.host_bit(Gfp::IO), Some(6));
        assert_eq!(layout.host_bit(Gfp::ACCOUNT), Some(22));
        assert_eq!(layout.host_bit(Gfp::DIRECT_RECLAIM), None);
        assert!(layout.unknown().is_empty());
    }
}
