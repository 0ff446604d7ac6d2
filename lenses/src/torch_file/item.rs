//! Whatever a file of `torch.save` holds: tensors, and plain values, lists and dictionaries around them.

use std::fmt;

use tch::Tensor;

use super::{
    TorchFileError,
    archive::Archive,
    machine::{Machine, Value, run_whole},
    rebuild::Storages,
};

/// How deep lists and dictionaries may be in each other.
const MAX_DEPTH: usize = 16;
/// Items of a file, each counted as often as it is reached: a list may hold another many times over.
const MAX_ITEMS: usize = 1 << 20;

/// A value.
#[derive(Debug)]
#[allow(missing_docs)] // the names say it
pub enum Item {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    /// A list or a tuple.
    List(Vec<Self>),
    Dict(Vec<(Key, Self)>),
    /// Contiguous, on the CPU, of the type it was stored in.
    Tensor(Tensor),
}

/// A key of a dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Key {
    Str(String),
    Int(i64),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(key) => f.write_str(key),
            Self::Int(key) => key.fmt(f),
        }
    }
}

impl From<&str> for Key {
    fn from(key: &str) -> Self {
        Self::Str(key.to_owned())
    }
}

impl Item {
    /// What a dictionary holds under a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Dict(items) = self else { return None };
        items.iter().find(|(own, _)| matches!(own, Key::Str(own) if own == key)).map(|(_, item)| item)
    }
}

/// Reads the dictionary in a `torch.save` file with everything in it, as [`Item::Dict`]. Runs nothing, as
/// [`read`](super::read).
///
/// # Errors
/// When the bytes are not such a file, hold anything else, or nest too deeply.
pub fn read_items(bytes: &[u8]) -> Result<Item, TorchFileError> {
    let mut archive = Archive::open(bytes)?;
    let pickle = archive.pickle()?;
    let (machine, root) = run_whole(&pickle)?;
    let storages = Storages::new(&mut archive, bytes.len() as u64);
    Reader { machine: &machine, storages, left: MAX_ITEMS }.dict(root, "", 0)
}

struct Reader<'m, 'a, 'b> {
    machine: &'m Machine<'m>,
    storages: Storages<'a, 'b>,
    left: usize,
}

impl Reader<'_, '_, '_> {
    fn item(&mut self, value: Value<'_>, name: &str, depth: usize) -> Result<Item, TorchFileError> {
        let bad = |reason: &str| TorchFileError::Tensor { name: name.to_owned(), reason: reason.to_owned() };
        self.left = self.left.checked_sub(1).ok_or_else(|| bad("the file holds too many values"))?;
        if depth > MAX_DEPTH {
            return Err(bad("lists and dictionaries are too deep in each other"));
        }
        Ok(match value {
            Value::None => Item::None,
            Value::Bool(yes) => Item::Bool(yes),
            Value::Int(n) => Item::Int(n),
            Value::Float(x) => Item::Float(x),
            Value::Str(text) => Item::Str(text.to_owned()),
            Value::Tuple(i) => self.list(&self.machine.tuples[i], name, depth)?,
            Value::List(i) => self.list(&self.machine.lists[i], name, depth)?,
            Value::Dict(i) => self.dict(i, name, depth)?,
            Value::Tensor(i) => Item::Tensor(self.storages.tensor(name, &self.machine.tensors[i])?),
            Value::Global(_) | Value::Storage(_) => return Err(bad("is no value")),
        })
    }

    fn list(&mut self, values: &[Value<'_>], name: &str, depth: usize) -> Result<Item, TorchFileError> {
        let items = values.iter().map(|value| self.item(*value, name, depth + 1));
        items.collect::<Result<_, _>>().map(Item::List)
    }

    fn dict(&mut self, place: usize, name: &str, depth: usize) -> Result<Item, TorchFileError> {
        let mut items: Vec<(Key, Item)> = Vec::new();
        for (key, value) in &self.machine.dicts[place] {
            let key = match *key {
                Value::Str(key) => Key::from(key),
                Value::Int(key) => Key::Int(key),
                _ => {
                    let reason = "has a key that is neither text nor a whole number".to_owned();
                    return Err(TorchFileError::Tensor { name: name.to_owned(), reason });
                }
            };
            let name = if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
            let item = self.item(*value, &name, depth + 1)?;
            items.push((key, item));
        }
        Ok(Item::Dict(items))
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::{super::write_items, *};

    #[test]
    fn items_come_back() {
        let tensor = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]).to_kind(Kind::Half);
        let items = [
            (Key::from("J"), Item::Dict(vec![(Key::Int(3), Item::Tensor(tensor.shallow_clone()))])),
            (Key::from("n"), Item::Int(1 << 40)),
            (Key::from("list"), Item::List(vec![Item::Int(-1), Item::Bool(true), Item::None])),
            (Key::from("x"), Item::Float(0.1)),
            (Key::from("words"), Item::Str("grüße".into())),
        ];
        let bytes = write_items(&items).unwrap();
        assert_eq!(bytes, write_items(&items).unwrap());
        let back = read_items(&bytes).unwrap();
        let Some(Item::Dict(layers)) = back.get("J") else { panic!("{back:?}") };
        let [(Key::Int(3), Item::Tensor(found))] = &layers[..] else { panic!("{layers:?}") };
        assert!(found.equal(&tensor) && found.kind() == Kind::Half);
        assert!(matches!(back.get("n"), Some(Item::Int(n)) if *n == 1 << 40));
        assert!(matches!(back.get("x"), Some(Item::Float(x)) if (x - 0.1).abs() < 1e-18));
        assert!(matches!(back.get("words"), Some(Item::Str(words)) if words == "grüße"));
        let list = back.get("list");
        assert!(
            matches!(list, Some(Item::List(l)) if matches!(l[..], [Item::Int(-1), Item::Bool(true), Item::None]))
        );
        let twice = write_items(&[(Key::Int(1), Item::None), (Key::Int(1), Item::None)]).unwrap_err();
        assert_eq!(twice.to_string(), "tensor \"1\": appears twice");
    }

    /// A zip with this pickle and no storages.
    fn file(pickle: &[u8]) -> Vec<u8> {
        super::super::write::tests::zipped(pickle)
    }

    #[test]
    fn what_could_exhaust_memory_is_refused() {
        // A dictionary that holds itself: d = {}; d["d"] = d
        let own = file(b"\x80\x02}q\x00X\x01\x00\x00\x00dh\x00s.");
        assert!(read_items(&own).unwrap_err().to_string().contains("too deep"));
        // Lists of ten lists of ten lists …: ten to the eighth items of 8 · 20 opcodes.
        let mut bomb = b"\x80\x02}X\x01\x00\x00\x00b]q\x00".to_vec();
        for level in 1..9u8 {
            bomb.extend(b"](");
            bomb.extend([b'h', level - 1].repeat(10));
            bomb.extend([b'e', b'q', level]);
        }
        // The lists below the last are still on the stack: a tuple takes them all.
        let mut all = b"\x80\x02}X\x01\x00\x00\x00b(".to_vec();
        all.extend(&bomb[9..]);
        all.extend(b"ts.");
        assert!(read_items(&file(&all)).unwrap_err().to_string().contains("too many values"));
    }
}
