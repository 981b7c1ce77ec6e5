//! `PyTorch`'s archives: `TorchScript` modules, such as the files that CLIP was published as, and state dicts of `torch.save`.
//!
//! An archive is a ZIP file of entries that are stored, not compressed. `<name>/data.pkl` is a pickle of modules in modules
//! or of one dictionary, whose tensors point into `<name>/data/0`, `<name>/data/1`, …. The code in a `TorchScript` archive
//! is left alone: nothing of a file is executed.

use std::collections::{BTreeMap, HashMap};

use tch::Kind;

use super::pickle::{self, Object, Pickle, Value};
use super::{Problem, Stored};

/// What a ZIP file begins with.
const MAGIC: &[u8] = b"PK\x03\x04";

/// A CLIP's pickle takes some hundred kilobytes. Reading one takes up to fifty times its length.
const LONGEST_PICKLE: usize = 4 << 20;
/// Limits of what a pickle may describe; a CLIP's modules are 6 deep.
const DEEPEST: usize = 32;
const MOST_VALUES: usize = 100_000;
const LONGEST_NAME: usize = 1000;
const MOST_DIMENSIONS: usize = 8;

/// Whether the bytes are an archive.
pub(super) fn is_format_of(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The floating-point tensors of an archive, under their modules' and their own names joined by dots. Integers and truth
/// values are left out, like whatever else modules may hold.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Stored<'_>>, Problem> {
    let entries = entries(bytes)?;
    let is_root = |name: &&str| name.split_once('/').is_some_and(|(_, rest)| rest == "data.pkl");
    let root = entries.keys().copied().find(is_root).ok_or_else(|| problem("it has no entry `<name>/data.pkl`"))?;
    let archive = Archive { folder: root.trim_end_matches("data.pkl"), entries };
    if archive.entries.get(format!("{}byteorder", archive.folder).as_str()).is_some_and(|order| order.data == b"big") {
        return Err(problem("its numbers are big-endian, expected little-endian ones"));
    }
    let pickle = archive.entry("data.pkl")?;
    if pickle.len() > LONGEST_PICKLE {
        return Err(problem(format!("`{root}` has {} bytes, expected at most {LONGEST_PICKLE}", pickle.len())));
    }
    let pickle = pickle::read(pickle).map_err(|error| problem(format!("`{root}`, {error}")))?;
    let mut reader = Reader { archive: &archive, pickle: &pickle, seen: 0, tensors: BTreeMap::new() };
    reader.collect("", pickle.root, 0)?;
    Ok(reader.tensors)
}

fn problem(what: impl Into<String>) -> Problem {
    Problem::Archive(what.into())
}

struct Archive<'a> {
    /// What all names begin with, up to and with the slash.
    folder: &'a str,
    entries: HashMap<&'a str, Entry<'a>>,
}

impl<'a> Archive<'a> {
    fn entry(&self, name: &str) -> Result<&'a [u8], Problem> {
        let name = format!("{}{name}", self.folder);
        let entry = self.entries.get(name.as_str()).ok_or_else(|| problem(format!("it has no entry `{name}`")))?;
        if !entry.is_plain {
            return Err(problem(format!("`{name}` is compressed or encrypted, expected a stored entry")));
        }
        Ok(entry.data)
    }
}

/// Collects what a pickle describes.
struct Reader<'a, 'p> {
    archive: &'p Archive<'a>,
    pickle: &'p Pickle<'a>,
    /// Values that were looked at.
    seen: usize,
    tensors: BTreeMap<String, Stored<'a>>,
}

impl<'a> Reader<'a, '_> {
    /// Takes in `value`, which is called `name`, with all that is in it.
    fn collect(&mut self, name: &str, value: Value, depth: usize) -> Result<(), Problem> {
        self.seen += 1;
        if depth > DEEPEST || self.seen > MOST_VALUES || name.len() > LONGEST_NAME {
            let name: String = name.chars().take(100).collect();
            return Err(problem(format!("its modules are nested too deep, too many or named too long, at `{name}`")));
        }
        let (items, state) = match self.pickle.object(value) {
            Some(Object::Made { callable: Value::Global("torch._utils", "_rebuild_tensor_v2"), arguments, .. }) => {
                let tensor = self.tensor(name, *arguments)?;
                self.tensors.extend(tensor.map(|tensor| (name.to_owned(), tensor)));
                return Ok(());
            }
            Some(Object::Made { callable: Value::Global("torch._utils", "_rebuild_parameter"), arguments, .. }) => {
                let [tensor, ..] = self.pickle.sequence(*arguments).unwrap_or_default() else {
                    return Err(malformed(name));
                };
                return self.collect(name, *tensor, depth + 1);
            }
            Some(Object::Made { items, state, .. }) => (&items[..], self.pickle.object(*state)),
            Some(Object::Dictionary(items)) => (&items[..], None),
            _ => return Ok(()),
        };
        let attributes = match state {
            Some(Object::Dictionary(attributes)) => &attributes[..],
            _ => &[],
        };
        for (key, value) in items.iter().chain(attributes) {
            if let Value::Text(key) = key {
                let name = if name.is_empty() { (*key).to_owned() } else { format!("{name}.{key}") };
                self.collect(&name, *value, depth + 1)?;
            }
        }
        Ok(())
    }

    /// The tensor that `_rebuild_tensor_v2(storage, offset, shape, strides, …)` would give, with a storage that is
    /// `('storage', class, entry, device, length)`. Offset, strides and length count numbers.
    fn tensor(&self, name: &str, arguments: Value) -> Result<Option<Stored<'a>>, Problem> {
        let [storage, Value::Integer(offset), shape, strides, ..] = self.pickle.sequence(arguments).unwrap_or_default()
        else {
            return Err(malformed(name));
        };
        let Some(Object::Persistent(id)) = self.pickle.object(*storage) else { return Err(malformed(name)) };
        let [Value::Text("storage"), Value::Global(_, class), Value::Text(key), _, Value::Integer(length), ..] =
            self.pickle.sequence(*id).unwrap_or_default()
        else {
            return Err(malformed(name));
        };
        let (kind, width) = match *class {
            "FloatStorage" => (Kind::Float, 4),
            "HalfStorage" => (Kind::Half, 2),
            "BFloat16Storage" => (Kind::BFloat16, 2),
            "LongStorage" | "IntStorage" | "ShortStorage" | "CharStorage" | "ByteStorage" | "BoolStorage" => {
                return Ok(None);
            }
            other => return Err(Problem::Kind { tensor: name.to_owned(), found: other.to_owned() }),
        };
        let sizes = |value: &Value| -> Option<Vec<i64>> {
            let size = |value: &Value| match value {
                Value::Integer(size) if *size >= 0 => Some(*size),
                _ => None,
            };
            self.pickle.sequence(*value)?.iter().map(size).collect()
        };
        let (Some(shape), Some(strides)) = (sizes(shape), sizes(strides)) else { return Err(malformed(name)) };
        if shape.len() != strides.len() || shape.len() > MOST_DIMENSIONS {
            return Err(malformed(name));
        }
        let data = self.archive.entry(&format!("data/{key}"))?;
        let in_storage = usize::try_from(*length).ok().filter(|length| Some(data.len()) >= length.checked_mul(width));
        let in_storage = in_storage.ok_or_else(|| {
            problem(format!(
                "`{name}` has {length} numbers of {width} bytes, its entry `data/{key}` {} bytes",
                data.len()
            ))
        })?;
        let data = extent(&shape, &strides)
            .filter(|_| shape.iter().try_fold(1, |count: i64, &size| count.checked_mul(size)) <= Some(*length))
            .and_then(|extent| Some((usize::try_from(*offset).ok()?, usize::try_from(extent).ok()?)))
            .filter(|(offset, extent)| offset.checked_add(*extent) <= Some(in_storage))
            .and_then(|(offset, extent)| data.get(offset * width..(offset + extent) * width));
        let data = data.ok_or_else(|| {
            problem(format!(
                "`{name}` {shape:?} with strides {strides:?} from {offset} on exceeds its {length} numbers"
            ))
        })?;
        Ok(Some(Stored { kind, data, shape, strides: Some(strides) }))
    }
}

/// The numbers from a tensor's first to its last as they lie; `None` if there are too many to count.
fn extent(shape: &[i64], strides: &[i64]) -> Option<i64> {
    if shape.contains(&0) {
        return Some(0);
    }
    let mut steps = shape.iter().zip(strides).map(|(size, stride)| (size - 1).checked_mul(*stride));
    steps.try_fold(1_i64, |extent, step| extent.checked_add(step?))
}

fn malformed(name: &str) -> Problem {
    problem(format!("`{name}` is not described as PyTorch describes a tensor"))
}

/// An entry of a ZIP file.
struct Entry<'a> {
    data: &'a [u8],
    /// Neither compressed nor encrypted.
    is_plain: bool,
}

/// The entries of a ZIP file by their names (the structures are those of PKWARE's APPNOTE 6.3, sections 4.3 and 4.5).
fn entries(bytes: &[u8]) -> Result<HashMap<&str, Entry<'_>>, Problem> {
    const END: &[u8] = b"PK\x05\x06";
    const END_LENGTH: usize = 22;
    const LONGEST_COMMENT: usize = u16::MAX as usize;
    const LOCATOR: &[u8] = b"PK\x06\x07";
    const LOCATOR_LENGTH: usize = 20;
    const END_64: &[u8] = b"PK\x06\x06";
    let cut_short = || problem("it is cut short: its directory of entries is not where it should be");

    let last = bytes.len().checked_sub(END_LENGTH).ok_or_else(cut_short)?;
    let mut places = (last.saturating_sub(LONGEST_COMMENT)..=last).rev();
    let end = places.find(|&at| bytes[at..].starts_with(END)).ok_or_else(cut_short)?;
    let locator = end.checked_sub(LOCATOR_LENGTH).and_then(|at| bytes.get(at..));
    let (count, start) = match locator.filter(|locator| locator.starts_with(LOCATOR)) {
        Some(locator) => {
            let end = number::<8>(locator, 8).and_then(|at| bytes.get(at..)).filter(|end| end.starts_with(END_64));
            end.and_then(|end| Some((number::<8>(end, 32)?, number::<8>(end, 48)?)))
        }
        None => number::<2>(bytes, end + 10).zip(number::<4>(bytes, end + 16)),
    }
    .ok_or_else(cut_short)?;
    let mut directory = bytes.get(start..).ok_or_else(cut_short)?;
    let mut entries = HashMap::new();
    for _ in 0..count {
        let (name, entry, length) = entry(bytes, directory).ok_or_else(cut_short)?;
        entries.insert(name, entry);
        directory = &directory[length..];
    }
    Ok(entries)
}

/// The entry at the start of a directory: its name, itself, and the length of what the directory says of it.
fn entry<'a>(bytes: &'a [u8], directory: &'a [u8]) -> Option<(&'a str, Entry<'a>, usize)> {
    const DIRECTORY: &[u8] = b"PK\x01\x02";
    const DIRECTORY_LENGTH: usize = 46;
    const LOCAL_LENGTH: usize = 30;
    const ENCRYPTED: usize = 1;
    const STORED: usize = 0;
    if !directory.starts_with(DIRECTORY) {
        return None;
    }
    let [name, extra, comment] =
        [number::<2>(directory, 28)?, number::<2>(directory, 30)?, number::<2>(directory, 32)?];
    let length = DIRECTORY_LENGTH + name + extra + comment;
    let rest = directory.get(DIRECTORY_LENGTH..length)?;
    let (name, rest) = rest.split_at(name);
    // Sizes and place that don't fit their fields follow in this order among the extra fields.
    let mut large = zip64(&rest[..extra]);
    let mut field = |at| match number::<4>(directory, at)? {
        0xffff_ffff => {
            let value = number::<8>(large, 0);
            large = large.get(8..).unwrap_or_default();
            value
        }
        value => Some(value),
    };
    let [_, compressed, place] = [field(24)?, field(20)?, field(42)?];
    let local = bytes.get(place..).filter(|local| local.starts_with(MAGIC))?;
    let start = LOCAL_LENGTH + number::<2>(local, 26)? + number::<2>(local, 28)?;
    let data = local.get(start..start.checked_add(compressed)?)?;
    let is_plain = number::<2>(directory, 8)? & ENCRYPTED == 0 && number::<2>(directory, 10)? == STORED;
    Some((std::str::from_utf8(name).ok()?, Entry { data, is_plain }, length))
}

/// The extra field for sizes of 64 bits, empty if there is none.
fn zip64(mut extra: &[u8]) -> &[u8] {
    const ZIP64: usize = 1;
    while let Some((id, length)) = number::<2>(extra, 0).zip(number::<2>(extra, 2)) {
        let Some(field) = extra.get(4..4 + length) else { break };
        if id == ZIP64 {
            return field;
        }
        extra = &extra[4 + length..];
    }
    &[]
}

/// The little-endian number of `N` bytes at a place.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<usize> {
    let mut whole = [0; 8];
    whole[..N].copy_from_slice(bytes.get(at..)?.first_chunk::<N>()?);
    usize::try_from(u64::from_le_bytes(whole)).ok()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::mapped::MappedFile;
    use super::*;

    fn path(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/weights").join(name)
    }

    fn fixture(name: &str) -> Vec<u8> {
        fs_err::read(path(name)).unwrap()
    }

    fn refusal(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    /// What reference/weights/make.py put into the tensors: eighths, from 0 on.
    fn eighths(numbers: &[u8]) -> Vec<f32> {
        numbers.iter().map(|&number| f32::from(number) / 8.0).collect()
    }

    #[test]
    fn what_pytorch_wrote_is_read_back() {
        for (file, folder) in [("script.pt", "script/"), ("state_dict.pt", "state_dict/")] {
            let mapped = MappedFile::open(&path(file)).unwrap();
            let tensors = read(mapped.bytes()).unwrap();
            let found: Vec<_> = tensors
                .iter()
                .map(|(name, stored)| {
                    let tensor = mapped.tensor(stored);
                    let values = Vec::<f32>::try_from(tensor.to_kind(Kind::Float).reshape(-1)).unwrap();
                    (name.as_str(), tensor.kind(), tensor.size(), values)
                })
                .collect();
            let expected = [
                ("blocks.0.weight", Kind::Half, vec![2, 3], eighths(&[0, 1, 2, 3, 4, 5])),
                ("blocks.1.weight", Kind::Float, vec![2, 3], eighths(&[0, 1, 2, 3, 4, 5])),
                ("blocks.2.weight", Kind::BFloat16, vec![2, 3], eighths(&[0, 1, 2, 3, 4, 5])),
                ("logit_scale", Kind::Float, vec![], eighths(&[0])),
                ("part", Kind::Float, vec![4], eighths(&[4, 5, 6, 7])),
                ("transposed", Kind::Float, vec![3, 2], eighths(&[0, 3, 1, 4, 2, 5])),
            ];
            assert_eq!(found, expected, "{file}");
            assert_eq!(entries(mapped.bytes()).unwrap()[format!("{folder}version").as_str()].data, b"3\n");
        }
    }

    #[test]
    fn an_archive_that_is_cut_short_or_altered_is_refused_and_never_panics() {
        for file in ["script.pt", "state_dict.pt"] {
            let whole = fixture(file);
            for length in 0..whole.len() {
                assert!(refusal(&whole[..length]).contains("is cut short"), "{length}");
            }
            for at in 0..whole.len() {
                for byte in [0x00, 0x2e, 0x7f, 0xff] {
                    let mut altered = whole.clone();
                    altered[at] = byte;
                    let altered = MappedFile::in_memory(&altered);
                    for stored in read(altered.bytes()).unwrap_or_default().values() {
                        let _ = altered.tensor(stored);
                    }
                }
            }
        }
    }

    /// The state dict with another piece, of the same length, in the place of each `old`.
    fn with(old: &[u8], new: &[u8]) -> Vec<u8> {
        assert_eq!(old.len(), new.len());
        let mut bytes = fixture("state_dict.pt");
        let places: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(old)).collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at..][..new.len()].copy_from_slice(new);
        }
        bytes
    }

    #[test]
    fn what_is_wrong_is_named() {
        let expect = |old: &[u8], new: &[u8], expected: &str| {
            let found = refusal(&with(old, new));
            assert!(found.contains(expected), "{found}");
        };
        expect(b"_v2\nq\x03(", b"_v2\nq\x03i", "`state_dict/data.pkl`, byte 87: opcode 0x69");
        expect(b"/data.pkl", b"/data.pkm", "it has no entry `<name>/data.pkl`");
        expect(b"/data/6", b"/data/x", "it has no entry `state_dict/data/6`");
        // 4 numbers from the fifth on of 10.
        expect(b"K\x04K\x04\x85", b"K\x04K\x07\x85", "`part` [7] with strides [1] from 4 on exceeds its 10 numbers");
        expect(b"K\x01\x85q\x18", b"K\xff\x85q\x18", "`part` [4] with strides [255] from 4 on exceeds its 10 numbers");
        expect(b"K\x0atq\x16", b"K\x0btq\x16", "`part` has 11 numbers of 4 bytes, its entry `data/2` 40 bytes");
        expect(b"storage", b"STORAGE", "`logit_scale` is not described as PyTorch describes a tensor");
        expect(b"\nHalfStorage", b"\nReal2Floats", "`blocks.0.weight` is Real2Floats, expected F32, F16 or BF16");
        // The compression method of the directory's first entry.
        let directory = b"PK\x01\x02\0\0\0\0\x08\x08\0\0";
        expect(directory, b"PK\x01\x02\0\0\0\0\x08\x08\x08\0", "`state_dict/data.pkl` is compressed or encrypted");
    }

    #[test]
    fn a_pickle_that_goes_round_in_circles_is_refused() {
        // {"a": itself}, in the place of the state dict's beginning.
        let circle = b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01h\x00s.";
        let mut bytes = fixture("state_dict.pt");
        let at = bytes.windows(4).position(|window| window == b"\x80\x02cc").unwrap();
        bytes[at..][..circle.len()].copy_from_slice(circle);
        assert!(refusal(&bytes).contains("nested too deep, too many or named too long, at `a.a.a.a"));
    }
}
