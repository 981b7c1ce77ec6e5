//! Python's pickles as data: what unpickling would call is noted down, and nothing is called.
//!
//! Rule of this file: memory stays in proportion to the pickle's length, and the stack doesn't grow with it, whatever the
//! pickle says. Objects lie in one list and name each other by index, so that a pickle can refer to one twice, or to itself.

use std::collections::HashMap;

/// A pickle isn't one that `PyTorch` writes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {problem}")]
pub(super) struct PickleError {
    at: usize,
    problem: String,
}

/// A value on Python's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    None,
    Bool,
    Integer(i64),
    Text(&'a str),
    /// A class or function by module and name.
    Global(&'a str, &'a str),
    /// A number that is of no use here.
    Other,
    /// An index into [`Pickle::objects`].
    Object(usize),
}

/// A value that has parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Object<'a> {
    /// A tuple or a list.
    Sequence(Vec<Value<'a>>),
    /// A dictionary.
    Dictionary(Vec<(Value<'a>, Value<'a>)>),
    /// What a class or function would make of its arguments.
    Made {
        callable: Value<'a>,
        arguments: Value<'a>,
        /// What it would be given as a dictionary.
        items: Vec<(Value<'a>, Value<'a>)>,
        /// What its attributes would be set from.
        state: Value<'a>,
    },
    /// Something outside the pickle.
    Persistent(Value<'a>),
}

/// What a pickle describes.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) root: Value<'a>,
    objects: Vec<Object<'a>>,
}

impl<'a> Pickle<'a> {
    /// The object that a value stands for.
    pub(super) fn object(&self, value: Value) -> Option<&Object<'a>> {
        match value {
            Value::Object(index) => self.objects.get(index),
            _ => None,
        }
    }

    /// The elements of a tuple or list.
    pub(super) fn sequence(&self, value: Value) -> Option<&[Value<'a>]> {
        match self.object(value) {
            Some(Object::Sequence(elements)) => Some(elements),
            _ => None,
        }
    }
}

/// Reads a pickle of protocol 2 to 5, as far as `torch.save` and `TorchScript` make use of it.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, PickleError> {
    let mut machine =
        Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), objects: Vec::new() };
    loop {
        let at = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => return Ok(Pickle { root, objects: machine.objects }),
            Err(problem) => return Err(PickleError { at, problem }),
        }
    }
}

/// Pickle's stack machine.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    objects: Vec<Object<'a>>,
}

impl<'a> Machine<'a> {
    /// Carries out one opcode (the names are those of Python's `pickletools`); the last gives what the pickle describes.
    fn step(&mut self) -> Result<Option<Value<'a>>, String> {
        let [opcode] = self.take_array()?;
        match opcode {
            // PROTO, FRAME
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            // STOP
            b'.' => return self.pop().map(Some),
            // MARK
            b'(' => self.marks.push(self.stack.len()),
            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Bool),
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let value = i32::from_le_bytes(self.take_array()?);
                self.stack.push(Value::Integer(value.into()));
            }
            b'K' => {
                let [value] = self.take_array()?;
                self.stack.push(Value::Integer(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.take_array()?);
                self.stack.push(Value::Integer(value.into()));
            }
            0x8a => {
                let [length] = self.take_array()?;
                let long = signed(self.take(length.into())?);
                self.stack.push(long);
            }
            // BINFLOAT
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Other);
            }
            // BINUNICODE, SHORT_BINUNICODE
            b'X' => {
                let length = u32::from_le_bytes(self.take_array()?);
                self.text(length as usize)?;
            }
            0x8c => {
                let [length] = self.take_array()?;
                self.text(length.into())?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Global(module, name));
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.stack.push(Value::Global(module, name)),
                _ => return Err("a class or function that isn't named by texts".to_owned()),
            },
            // EMPTY_TUPLE, EMPTY_LIST
            b')' | b']' => self.make(Object::Sequence(Vec::new())),
            // TUPLE1, TUPLE2, TUPLE3, TUPLE
            0x85..=0x87 => {
                let mut elements = Vec::new();
                for _ in 0x84..opcode {
                    elements.insert(0, self.pop()?);
                }
                self.make(Object::Sequence(elements));
            }
            b't' => {
                let elements = self.pop_to_mark()?;
                self.make(Object::Sequence(elements));
            }
            // APPEND, APPENDS
            b'a' => {
                let element = self.pop()?;
                self.append(vec![element])?;
            }
            b'e' => {
                let elements = self.pop_to_mark()?;
                self.append(elements)?;
            }
            // EMPTY_DICT, SETITEM, SETITEMS
            b'}' => self.make(Object::Dictionary(Vec::new())),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            // REDUCE, NEWOBJ
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.make(Object::Made { callable, arguments, items: Vec::new(), state: Value::None });
            }
            // BUILD
            b'b' => {
                let new = self.pop()?;
                let Object::Made { state, .. } = self.top_object()? else {
                    return Err("attributes of something that has none".to_owned());
                };
                *state = new;
            }
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                self.make(Object::Persistent(id));
            }
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' => {
                let [index] = self.take_array()?;
                self.remember(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.take_array()?);
                self.remember(index)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            // BINGET, LONG_BINGET
            b'h' => {
                let [index] = self.take_array()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.take_array()?);
                self.recall(index)?;
            }
            other => return Err(format!("opcode {other:#04x}, expected one of those that PyTorch writes")),
        }
        Ok(None)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes[self.at..].get(..length).ok_or("the pickle is cut short")?;
        self.at += length;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(*self.take(N)?.first_chunk().expect("so many bytes were taken"))
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "a text that isn't UTF-8")?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    /// The bytes up to a line feed.
    fn line(&mut self) -> Result<&'a str, String> {
        let length = self.bytes[self.at..].iter().position(|&byte| byte == b'\n').ok_or("the pickle is cut short")?;
        let line = self.take(length)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| "a name that isn't UTF-8".to_owned())
    }

    /// Takes the top of the stack, down to the last mark.
    fn pop(&mut self) -> Result<Value<'a>, String> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        let value = if self.stack.len() > bottom { self.stack.pop() } else { None };
        value.ok_or_else(|| "an operand is missing".to_owned())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    fn make(&mut self, object: Object<'a>) {
        self.stack.push(Value::Object(self.objects.len()));
        self.objects.push(object);
    }

    fn top(&self) -> Result<Value<'a>, String> {
        self.stack.last().copied().ok_or_else(|| "an operand is missing".to_owned())
    }

    fn top_object(&mut self) -> Result<&mut Object<'a>, String> {
        match self.top()? {
            Value::Object(index) => Ok(&mut self.objects[index]),
            _ => Err("parts of something that has none".to_owned()),
        }
    }

    fn append(&mut self, mut new: Vec<Value<'a>>) -> Result<(), String> {
        let Object::Sequence(elements) = self.top_object()? else {
            return Err("elements of something that isn't a list".to_owned());
        };
        elements.append(&mut new);
        Ok(())
    }

    /// Keys and values in turn.
    fn set_items(&mut self, new: &[Value<'a>]) -> Result<(), String> {
        let (Object::Dictionary(items) | Object::Made { items, .. }) = self.top_object()? else {
            return Err("items of something that isn't a dictionary".to_owned());
        };
        let (new, []) = new.as_chunks() else { return Err("a key without a value".to_owned()) };
        items.extend(new.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    fn remember(&mut self, index: u32) -> Result<(), String> {
        self.memo.insert(index, self.top()?);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), String> {
        let value = self.memo.get(&index).ok_or_else(|| format!("the memo has no entry {index}"))?;
        self.stack.push(*value);
        Ok(())
    }
}

/// A little-endian integer in two's complement of any length.
fn signed(bytes: &[u8]) -> Value<'static> {
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut whole = [if negative { 0xff } else { 0 }; 8];
    match whole.get_mut(..bytes.len()) {
        Some(part) => part.copy_from_slice(bytes),
        None => return Value::Other,
    }
    Value::Integer(i64::from_le_bytes(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    #[test]
    fn values_come_out_as_python_wrote_them() {
        // pickle.dumps((-2, 300, 70000, 2**40, -1.5, None, True, "ü", [1, [2, 3]], {"a": 1}), protocol)
        let protocol_2 = b"\x80\x02(J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01G\xbf\xf8\x00\x00\x00\x00\x00\x00N\x88X\x02\x00\x00\x00\xc3\xbcq\x00]q\x01(K\x01]q\x02(K\x02K\x03ee}q\x03X\x01\x00\x00\x00aq\x04K\x01stq\x05.";
        let protocol_4 = b"\x80\x04\x95G\x00\x00\x00\x00\x00\x00\x00(J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01G\xbf\xf8\x00\x00\x00\x00\x00\x00N\x88\x8c\x02\xc3\xbc\x94]\x94(K\x01]\x94(K\x02K\x03ee}\x94\x8c\x01a\x94K\x01st\x94.";
        for bytes in [&protocol_2[..], protocol_4] {
            let pickle = read(bytes).unwrap();
            let [small, short, int, long, Value::Other, Value::None, Value::Bool, text, list, dictionary] =
                pickle.sequence(pickle.root).unwrap()
            else {
                panic!("{pickle:?}")
            };
            let integers = [small, short, int, long].map(|value| *value);
            assert_eq!(integers, [-2, 300, 70_000, 1 << 40].map(Value::Integer));
            assert_eq!(*text, Value::Text("ü"));
            let [Value::Integer(1), inner] = pickle.sequence(*list).unwrap() else { panic!("{pickle:?}") };
            assert_eq!(pickle.sequence(*inner).unwrap(), [Value::Integer(2), Value::Integer(3)]);
            let items = vec![(Value::Text("a"), Value::Integer(1))];
            assert_eq!(pickle.object(*dictionary), Some(&Object::Dictionary(items)));
        }
    }

    #[test]
    fn what_would_be_called_is_only_noted_down() {
        let pickle = read(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.").unwrap();
        let Some(Object::Made { callable, arguments, .. }) = pickle.object(pickle.root) else { panic!("{pickle:?}") };
        assert_eq!(*callable, Value::Global("os", "system"));
        assert_eq!(pickle.sequence(*arguments), Some(&[Value::Text("ls")][..]));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        assert_eq!(problem(b""), "byte 0: the pickle is cut short");
        assert_eq!(problem(b"\x80\x02X\xff\xff\xff\xffab"), "byte 2: the pickle is cut short");
        assert_eq!(problem(b"cos\nsystem"), "byte 0: the pickle is cut short");
        assert_eq!(problem(b"X\x01\x00\x00\x00\xff."), "byte 0: a text that isn't UTF-8");
        assert_eq!(problem(b"\x80\x02i"), "byte 2: opcode 0x69, expected one of those that PyTorch writes");
        assert_eq!(problem(b"."), "byte 0: an operand is missing");
        assert_eq!(problem(b"K\x01(R"), "byte 3: an operand is missing");
        assert_eq!(problem(b"K\x01t"), "byte 2: a mark is missing");
        assert_eq!(problem(b"h\x07"), "byte 0: the memo has no entry 7");
        assert_eq!(problem(b"K\x01K\x02a"), "byte 4: parts of something that has none");
        assert_eq!(problem(b")K\x01K\x02s"), "byte 5: items of something that isn't a dictionary");
        assert_eq!(problem(b"}(K\x01u"), "byte 4: a key without a value");
        assert_eq!(problem(b"}K\x01a"), "byte 3: elements of something that isn't a list");
        assert_eq!(problem(b"}}b"), "byte 2: attributes of something that has none");
        assert_eq!(problem(b"K\x01K\x01\x93"), "byte 4: a class or function that isn't named by texts");
    }

    #[test]
    fn deep_and_circular_pickles_are_read_and_dropped() {
        let mut bytes = b")".to_vec();
        bytes.resize(1_000_000, 0x85);
        bytes.push(b'.');
        drop(read(&bytes).unwrap());
        let pickle = read(b"]q\x00h\x00a.").unwrap();
        assert_eq!(pickle.sequence(pickle.root), Some(&[pickle.root][..]));
    }
}
