//! Runs a pickle that may only describe a dictionary of tensors, plain values, and lists and dictionaries of these.

use std::collections::HashMap;

use tch::Kind;

use super::TorchFileError;
use super::pickle::{Global, Op, Ops};

/// What the pickle says of one tensor; nothing of it is checked against the storage yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorSpec<'a> {
    pub(super) storage: StorageSpec<'a>,
    /// All three in elements.
    pub(super) offset: i64,
    pub(super) size: Vec<i64>,
    pub(super) stride: Vec<i64>,
}

/// A storage by its key in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StorageSpec<'a> {
    pub(super) key: &'a str,
    pub(super) kind: Kind,
    /// Elements, not bytes.
    pub(super) numel: i64,
}

/// A value on the stack. Compound values are places in the machine's own tables: copying one out of the memo costs
/// nothing, a dictionary may hold itself, and nothing is nested, so that no file can exhaust memory or the stack.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'a str),
    Global(Global),
    Tuple(usize),
    Dict(usize),
    List(usize),
    Storage(StorageSpec<'a>),
    Tensor(usize),
}

#[derive(Debug)]
pub(super) struct Machine<'a> {
    ops: Ops<'a>,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    pub(super) tuples: Vec<Vec<Value<'a>>>,
    pub(super) lists: Vec<Vec<Value<'a>>>,
    pub(super) dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub(super) tensors: Vec<TensorSpec<'a>>,
}

/// The tensors that the pickle `bytes` describes, by key, in its order.
pub(super) fn run<'a>(bytes: &'a [u8]) -> Result<Vec<(&'a str, TensorSpec<'a>)>, TorchFileError> {
    let (machine, root) = run_whole(bytes)?;
    let tensor = |(key, value): &(Value<'a>, Value<'a>)| match (*key, *value) {
        (Value::Str(key), Value::Tensor(spec)) => Ok((key, machine.tensors[spec].clone())),
        (Value::Str(key), _) => {
            Err(TorchFileError::Tensor { name: key.into(), reason: "is no tensor".into() })
        }
        _ => Err(machine.ops.error("a key that is no text")),
    };
    machine.dicts[root].iter().map(tensor).collect()
}

/// Everything that the pickle `bytes` describes, and the place of its dictionary in the machine's table.
pub(super) fn run_whole(bytes: &[u8]) -> Result<(Machine<'_>, usize), TorchFileError> {
    let mut machine = Machine {
        ops: Ops::new(bytes),
        stack: vec![],
        marks: vec![],
        memo: HashMap::new(),
        tuples: vec![],
        lists: vec![],
        dicts: vec![],
        tensors: vec![],
    };
    machine.ops.header()?;
    loop {
        match machine.ops.op()? {
            Op::Stop => {
                let root = machine.finish()?;
                return Ok((machine, root));
            }
            op => machine.step(op)?,
        }
    }
}

impl<'a> Machine<'a> {
    fn step(&mut self, op: Op<'a>) -> Result<(), TorchFileError> {
        let value = match op {
            Op::None => Value::None,
            Op::Bool(yes) => Value::Bool(yes),
            Op::Float(x) => Value::Float(x),
            Op::Int(n) => Value::Int(n),
            Op::Str(text) => Value::Str(text),
            Op::Global(name) => Value::Global(name),
            Op::EmptyDict => self.new_dict(),
            Op::EmptyList => {
                self.lists.push(vec![]);
                Value::List(self.lists.len() - 1)
            }
            Op::EmptyTuple => self.new_tuple(vec![]),
            Op::Tuple => {
                let items = self.pop_mark()?;
                self.new_tuple(items)
            }
            Op::TupleOf(n) => {
                let items = self.pop_many(n)?;
                self.new_tuple(items)
            }
            Op::Get(slot) => match self.memo.get(&slot) {
                Some(value) => *value,
                None => return Err(self.ops.error(format!("nothing was remembered under {slot}"))),
            },
            Op::Reduce => self.reduce()?,
            Op::PersId => self.storage()?,
            Op::Put(slot) => {
                let top = self.top()?;
                self.memo.insert(slot, top);
                return Ok(());
            }
            Op::Mark => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            Op::Append => {
                let item = self.pop_many(1)?;
                return self.extend_list(item);
            }
            Op::Appends => {
                let items = self.pop_mark()?;
                return self.extend_list(items);
            }
            Op::SetItem => {
                let item = self.pop_many(2)?;
                return self.extend_dict(&item);
            }
            Op::SetItems => {
                let items = self.pop_mark()?;
                return self.extend_dict(&items);
            }
            Op::Build => return self.build(),
            Op::Stop => return Err(self.ops.error("ends twice")),
        };
        self.stack.push(value);
        Ok(())
    }

    fn new_tuple(&mut self, items: Vec<Value<'a>>) -> Value<'a> {
        self.tuples.push(items);
        Value::Tuple(self.tuples.len() - 1)
    }

    fn new_dict(&mut self) -> Value<'a> {
        self.dicts.push(vec![]);
        Value::Dict(self.dicts.len() - 1)
    }

    /// Takes `n` values, none from below the last mark.
    fn pop_many(&mut self, n: usize) -> Result<Vec<Value<'a>>, TorchFileError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n) {
            Some(start) if start >= floor => Ok(self.stack.split_off(start)),
            _ => Err(self.ops.error("takes more values than there are")),
        }
    }

    fn pop(&mut self) -> Result<Value<'a>, TorchFileError> {
        let popped = self.pop_many(1)?;
        Ok(popped[0])
    }

    fn top(&mut self) -> Result<Value<'a>, TorchFileError> {
        let top = self.pop()?;
        self.stack.push(top);
        Ok(top)
    }

    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>, TorchFileError> {
        let start = self.marks.pop().ok_or_else(|| self.ops.error("no mark was set"))?;
        Ok(self.stack.split_off(start.min(self.stack.len())))
    }

    fn extend_list(&mut self, items: Vec<Value<'a>>) -> Result<(), TorchFileError> {
        let Value::List(list) = self.top()? else {
            return Err(self.ops.error("appends to no list"));
        };
        self.lists[list].extend(items);
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Value<'a>]) -> Result<(), TorchFileError> {
        let Value::Dict(dict) = self.top()? else {
            return Err(self.ops.error("sets items of no dictionary"));
        };
        if !items.len().is_multiple_of(2) {
            return Err(self.ops.error("a key without a value"));
        }
        self.dicts[dict].extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    /// The `_metadata` that `Module.state_dict` hangs on its dictionary; module versions, of no use here.
    fn build(&mut self) -> Result<(), TorchFileError> {
        let state = self.pop()?;
        let (Value::Dict(state), Value::Dict(_)) = (state, self.top()?) else {
            return Err(self.ops.error("sets attributes of something that is no dictionary"));
        };
        if self.dicts[state].iter().all(|(key, _)| matches!(key, Value::Str("_metadata"))) {
            return Ok(());
        }
        Err(self.ops.error("sets another attribute than _metadata"))
    }

    /// The three calls there are.
    fn reduce(&mut self) -> Result<Value<'a>, TorchFileError> {
        let [function, Value::Tuple(args)] = self.pop_many(2)?[..] else {
            return Err(self.ops.error("a call without arguments"));
        };
        match (function, &self.tuples[args][..]) {
            (Value::Global(Global::OrderedDict), []) => Ok(self.new_dict()),
            (Value::Global(Global::RebuildTensor), args) => {
                let spec =
                    self.tensor(args).ok_or_else(|| self.ops.error("not the description of a tensor"))?;
                self.tensors.push(spec);
                Ok(Value::Tensor(self.tensors.len() - 1))
            }
            // `(tensor, requires_grad, backward_hooks)`: a parameter is its tensor.
            (
                Value::Global(Global::RebuildParameter),
                [Value::Tensor(i), Value::Bool(_), Value::Dict(hooks)],
            ) if self.dicts[*hooks].is_empty() => Ok(Value::Tensor(*i)),
            _ => Err(self.ops.error("a call of something that is no function, or with unknown arguments")),
        }
    }

    /// From `(storage, offset, size, stride, requires_grad, backward_hooks)`.
    fn tensor(&self, args: &[Value<'a>]) -> Option<TensorSpec<'a>> {
        let [Value::Storage(storage), Value::Int(offset), size, stride, Value::Bool(_), Value::Dict(hooks)] =
            *args
        else {
            return None;
        };
        let (size, stride) = (self.numbers(size)?, self.numbers(stride)?);
        self.dicts[hooks].is_empty().then_some(TensorSpec { storage, offset, size, stride })
    }

    fn numbers(&self, tuple: Value<'a>) -> Option<Vec<i64>> {
        let Value::Tuple(tuple) = tuple else { return None };
        let number = |value: &Value<'a>| if let Value::Int(n) = *value { Some(n) } else { None };
        self.tuples[tuple].iter().map(number).collect()
    }

    /// From `('storage', type, key, device, elements)`; the device is where it was, not where it goes.
    fn storage(&mut self) -> Result<Value<'a>, TorchFileError> {
        if let Value::Tuple(tuple) = self.pop()?
            && let [
                Value::Str("storage"),
                Value::Global(Global::Storage(kind)),
                Value::Str(key),
                Value::Str(_),
                Value::Int(numel),
            ] = self.tuples[tuple][..]
        {
            return Ok(Value::Storage(StorageSpec { key, kind, numel }));
        }
        Err(self.ops.error("not the description of a storage"))
    }

    fn finish(&mut self) -> Result<usize, TorchFileError> {
        let root = self.pop()?;
        if !(self.stack.is_empty() && self.marks.is_empty() && self.ops.at_end()) {
            return Err(self.ops.error("values are left over at the end"));
        }
        match root {
            Value::Dict(root) => Ok(root),
            _ => Err(self.ops.error("holds no dictionary of tensors")),
        }
    }
}
