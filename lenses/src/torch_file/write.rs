//! Writes what `torch.load(weights_only=True)` reads.

use std::collections::HashSet;
use std::io::{Cursor, Write as _};

use tch::{Kind, Tensor};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use super::{Item, Key, TorchFileError};

/// torch maps storages into memory at such boundaries.
const ALIGNMENT: u16 = 64;
const ROOT: &str = "params";

/// A `torch.save` file with `tensors` (f64, f32, f16 or bf16) as an `OrderedDict` of CPU tensors, in the given order.
/// Equal tensors give equal bytes: there is no time in them.
///
/// # Errors
/// When a name comes twice, or a tensor has another type.
pub fn write(tensors: &[(String, Tensor)]) -> Result<Vec<u8>, TorchFileError> {
    let storages: Vec<&Tensor> = tensors.iter().map(|(_, tensor)| tensor).collect();
    zipped(&pickle(tensors)?, &storages)
}

/// A `torch.save` file of a plain dictionary, with whatever is in it. Equal items give equal bytes.
///
/// # Errors
/// When a key comes twice, or a tensor has another type.
pub fn write_items(items: &[(Key, Item)]) -> Result<Vec<u8>, TorchFileError> {
    let (mut out, mut storages) = (b"\x80\x02".to_vec(), Vec::new());
    dict(&mut out, items, &mut storages)?;
    out.push(b'.');
    zipped(&out, &storages)
}

fn zipped(pickle: &[u8], storages: &[&Tensor]) -> Result<Vec<u8>, TorchFileError> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    put(&mut zip, "data.pkl", pickle)?;
    put(&mut zip, "byteorder", b"little")?;
    for (key, tensor) in storages.iter().enumerate() {
        put(&mut zip, &format!("data/{key}"), &raw(tensor)?)?;
    }
    put(&mut zip, "version", b"3\n")?;
    Ok(zip.finish()?.into_inner())
}

fn put(zip: &mut ZipWriter<Cursor<Vec<u8>>>, name: &str, bytes: &[u8]) -> Result<(), TorchFileError> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .large_file(u32::try_from(bytes.len()).is_err())
        .with_alignment(ALIGNMENT);
    zip.start_file(format!("{ROOT}/{name}"), options)?;
    zip.write_all(bytes).map_err(|e| TorchFileError::Zip(e.to_string()))
}

/// The numbers in row-major order.
fn raw(tensor: &Tensor) -> Result<Vec<u8>, TorchFileError> {
    let flat = tensor.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; flat.numel() * flat.kind().elt_size_in_bytes()];
    if !bytes.is_empty() {
        flat.f_copy_data_u8(&mut bytes, flat.numel())?;
    }
    Ok(bytes)
}

fn pickle(tensors: &[(String, Tensor)]) -> Result<Vec<u8>, TorchFileError> {
    let mut seen = HashSet::new();
    let mut out = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    for (key, (name, tensor)) in tensors.iter().enumerate() {
        if !seen.insert(name) {
            return Err(TorchFileError::Tensor { name: name.clone(), reason: "appears twice".into() });
        }
        text(&mut out, name);
        rebuilt(&mut out, name, key, tensor)?;
    }
    out.extend(b"u.");
    Ok(out)
}

/// The tensor `name` of the storage `key`.
fn rebuilt(out: &mut Vec<u8>, name: &str, key: usize, tensor: &Tensor) -> Result<(), TorchFileError> {
    let no_float = || {
        let reason = format!("{:?} is no float", tensor.kind());
        TorchFileError::Tensor { name: name.to_owned(), reason }
    };
    let storage = storage_type(tensor.kind()).ok_or_else(no_float)?;
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(out, "storage");
    out.extend(format!("ctorch\n{storage}\n").bytes());
    text(out, &key.to_string());
    text(out, "cpu");
    int(out, tensor.numel() as i64);
    out.extend(b"tQ");
    int(out, 0);
    let size = tensor.size();
    ints(out, &size);
    ints(out, &strides(&size));
    out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    Ok(())
}

fn dict<'t>(
    out: &mut Vec<u8>,
    items: &'t [(Key, Item)],
    storages: &mut Vec<&'t Tensor>,
) -> Result<(), TorchFileError> {
    out.extend(b"}(");
    for (i, (key, value)) in items.iter().enumerate() {
        let name = key.to_string();
        if items[..i].iter().any(|(earlier, _)| earlier == key) {
            return Err(TorchFileError::Tensor { name, reason: "appears twice".into() });
        }
        match key {
            Key::Str(key) => text(out, key),
            Key::Int(key) => int(out, *key),
        }
        item(out, &name, value, storages)?;
    }
    out.push(b'u');
    Ok(())
}

fn item<'t>(
    out: &mut Vec<u8>,
    name: &str,
    value: &'t Item,
    storages: &mut Vec<&'t Tensor>,
) -> Result<(), TorchFileError> {
    match value {
        Item::None => out.push(b'N'),
        Item::Bool(yes) => out.push(if *yes { 0x88 } else { 0x89 }),
        Item::Int(n) => int(out, *n),
        Item::Float(x) => {
            out.push(b'G');
            out.extend(x.to_be_bytes());
        }
        Item::Str(words) => text(out, words),
        Item::List(values) => {
            out.extend(b"](");
            values.iter().try_for_each(|value| item(out, name, value, storages))?;
            out.push(b'e');
        }
        Item::Dict(items) => dict(out, items, storages)?,
        Item::Tensor(tensor) => {
            storages.push(tensor);
            rebuilt(out, name, storages.len() - 1, tensor)?;
        }
    }
    Ok(())
}

fn storage_type(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Float => "FloatStorage",
        Kind::Half => "HalfStorage",
        Kind::BFloat16 => "BFloat16Storage",
        Kind::Double => "DoubleStorage",
        _ => return None,
    })
}

/// Row-major, in elements.
fn strides(size: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; size.len()];
    for i in (1..size.len()).rev() {
        strides[i - 1] = strides[i] * size[i].max(1);
    }
    strides
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

fn int(out: &mut Vec<u8>, n: i64) {
    if let Ok(short) = i32::try_from(n) {
        out.push(b'J');
        out.extend(short.to_le_bytes());
    } else {
        out.extend(b"\x8a\x08");
        out.extend(n.to_le_bytes());
    }
}

fn ints(out: &mut Vec<u8>, numbers: &[i64]) {
    out.push(b'(');
    for n in numbers {
        int(out, *n);
    }
    out.push(b't');
}

#[cfg(test)]
pub(super) mod tests {
    /// A file of a pickle without storages.
    pub(in super::super) fn zipped(pickle: &[u8]) -> Vec<u8> {
        super::zipped(pickle, &[]).unwrap_or_default()
    }
}
