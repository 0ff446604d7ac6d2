//! Real files of torch 2.11 (`fixtures/torch_save`), files made by hand, damaged and hostile ones.

use std::io::{Cursor, Write as _};

use tch::{Device, Kind, Tensor};
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{read, write};

const STATE_DICT: &[u8] = include_bytes!("../../../fixtures/torch_save/state_dict.pt");
const VIEWS: &[u8] = include_bytes!("../../../fixtures/torch_save/views.pt");

fn message(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(vec![]));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A file whose pickle is `body` after the header, with a storage of four f32.
fn with_pickle(body: &[u8]) -> Vec<u8> {
    zipped(&[("x/data.pkl", &[b"\x80\x02", body].concat()), ("x/data/0", &[0; 16])])
}

/// One tensor over the storage of [`with_pickle`], said to have `numel` numbers; the rest as opcodes.
fn tensor(numel: u8, offset: &str, size: &str, stride: &str) -> Vec<u8> {
    let mut body = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n".to_vec();
    body.extend(b"X\x01\0\0\x000X\x06\0\0\0cuda:0K");
    body.push(numel);
    body.extend(b"tQ");
    body.extend([offset, size, stride].concat().bytes());
    body.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    body
}

/// `{"a": tensor}`.
fn tensor_pickle(numel: u8, offset: &str, size: &str, stride: &str) -> Vec<u8> {
    with_pickle(&[b"}X\x01\0\0\0a", &tensor(numel, offset, size, stride)[..], b"s."].concat())
}

#[test]
fn a_state_dict_of_torch() {
    let tensors = read(STATE_DICT).unwrap();
    let names: Vec<_> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["0.weight", "0.bias", "1.weight", "1.bias"]);
    for (i, (_, tensor)) in tensors.iter().enumerate() {
        let want = Tensor::arange(tensor.numel() as i64, (Kind::Float, Device::Cpu)) + 100. * i as f64;
        assert!(tensor.view(-1).equal(&want));
        assert_eq!(tensor.size(), if i % 2 == 0 { vec![3, 3] } else { vec![3] });
    }
}

#[test]
fn views_and_number_types_of_torch() {
    let b = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([3, 4]);
    let want = [
        ("transposed", b.tr()),
        ("row", b.get(1)),
        ("bf16", b.to_kind(Kind::BFloat16)),
        ("f16", b.to_kind(Kind::Half)),
        ("f64", b.to_kind(Kind::Double)),
        ("empty", Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))),
        ("scalar", Tensor::from(2.5f32)),
        ("grad", b.shallow_clone()),
    ];
    let got = read(VIEWS).unwrap();
    assert_eq!(got.len(), want.len());
    for ((name, tensor), (want_name, want)) in got.iter().zip(&want) {
        assert_eq!(name, want_name);
        assert_eq!((tensor.kind(), tensor.size(), tensor.is_contiguous()), (want.kind(), want.size(), true));
        assert!(tensor.equal(want), "{name}");
    }
}

#[test]
fn what_is_written_reads_back_and_has_the_same_bytes_twice() {
    let tensors = read(VIEWS).unwrap();
    let bytes = write(&tensors).unwrap();
    assert_eq!(bytes, write(&tensors).unwrap());
    let again = read(&bytes).unwrap();
    assert_eq!(again.len(), tensors.len());
    for ((name, tensor), (want_name, want)) in again.iter().zip(&tensors) {
        assert_eq!((name, tensor.kind(), tensor.size()), (want_name, want.kind(), want.size()));
        assert!(tensor.equal(want));
    }
    let one = || ("a".to_owned(), Tensor::from(1f32));
    assert_eq!(write(&[one(), one()]).unwrap_err().to_string(), "tensor \"a\": appears twice");
    assert_eq!(
        write(&[("a".into(), Tensor::from(1i64))]).unwrap_err().to_string(),
        "tensor \"a\": Int64 is no float"
    );
    assert!(read(&write(&[]).unwrap()).unwrap().is_empty());
    let transposed = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]).tr();
    let back = read(&write(&[("t".into(), transposed.shallow_clone())]).unwrap()).unwrap();
    assert!(back[0].1.equal(&transposed));
}

/// A cache that TransformerLens saved: token ids beside activations, some of them several names of one storage.
#[test]
fn whole_numbers_are_for_who_asks_for_them() {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/import/tl.pt")).unwrap();
    assert_eq!(message(&bytes), "tensor \"embed.hook_in\": Int64 is no float");
    let tensors = super::read_numbers(&bytes).unwrap();
    let of = |name: &str| &tensors.iter().find(|(other, _)| other == name).unwrap().1;
    assert_eq!((of("embed.hook_in").kind(), of("embed.hook_in").size()), (Kind::Int64, vec![1, 6]));
    assert_eq!(of("blocks.2.hook_resid_pre").kind(), Kind::Float);
    assert!(of("blocks.2.hook_resid_pre").equal(of("blocks.2.hook_in")));
}

#[test]
fn foreign_contents_are_refused_by_name() {
    let fixture = |name: &str| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/torch_save/");
        std::fs::read(format!("{folder}{name}.pt")).unwrap()
    };
    assert_eq!(message(&fixture("system")), "global `posix.system` is not allowed in a file of tensors");
    let float8 = message(&fixture("float8"));
    assert_eq!(float8, "global `torch._utils._rebuild_tensor_v3` is not allowed in a file of tensors");
    assert_eq!(message(&fixture("list")), "tensor \"b\": is no tensor");
    assert!(message(&fixture("legacy")).contains("before 1.6"));
    assert!(message(b"").starts_with("not a whole torch.save file"));
    assert!(message(b"PK\x03\x04 and then nothing").starts_with("not a whole torch.save file"));
}

#[test]
fn hostile_archives() {
    let empty = b"\x80\x02}.";
    let case = |entries: &[(&str, &[u8])]| message(&zipped(entries));
    assert!(case(&[("x/data.pkl", empty), ("x/../../etc/passwd", b"")]).contains("leaves the archive"));
    assert!(case(&[("/data.pkl", empty)]).contains("leaves the archive"));
    assert!(case(&[("x/data.pkl", empty), ("y/data.pkl", empty)]).contains("more than one data.pkl"));
    assert!(case(&[("x/other", empty)]).contains("no data.pkl"));
    assert!(case(&[("x/data.pkl", empty), ("x/byteorder", b"big")]).contains("says \"big\""));
    // The compression method of both headers, changed to deflate.
    let mut deflated = zipped(&[("x/data.pkl", empty)]);
    for (signature, at) in [(b"PK\x03\x04", 8), (b"PK\x01\x02", 10)] {
        let header = deflated.windows(4).position(|w| w == signature).unwrap();
        deflated[header + at] = 8;
    }
    assert!(message(&deflated).contains("is compressed"), "{}", message(&deflated));
    let mut encrypted = zipped(&[("x/data.pkl", empty)]);
    for (signature, at) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        let header = encrypted.windows(4).position(|w| w == signature).unwrap();
        encrypted[header + at] |= 1;
    }
    assert!(message(&encrypted).contains("encrypted"), "{}", message(&encrypted));
}

#[test]
fn hostile_tensors() {
    let good = read(&tensor_pickle(4, "K\0", "(K\x02K\x02t", "(K\x02K\x01t")).unwrap();
    assert_eq!((good[0].0.as_str(), good[0].1.size()), ("a", vec![2, 2]));
    for (numel, offset, size, stride, part) in [
        (4, "K\x01", "(K\x02K\x02t", "(K\x02K\x01t", "reach beyond 4"),
        (4, "K\0", "(K\x02K\x02t", "(K\x03K\x01t", "reach beyond 4"),
        (4, "K\0", "(J\0\0\0\x01t", "(K\0t", "reach beyond 4"), // expanded: 16 million from one
        (4, "K\0", "\u{0}", "", "opcode 0x00"),
        (4, "J\0\0\0\x7f", "(K\x01t", "(K\x01t", "reach beyond 4"),
        (4, "K\0", "(K\x04t", "(K\x01K\x01t", "do not fit"),
        (4, "N", "(K\x04t", "(K\x01t", "not the description of a tensor"),
        (5, "K\0", "(K\x04t", "(K\x01t", "16 bytes found"),
    ] {
        let message = message(&tensor_pickle(numel, offset, size, stride));
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn hostile_pickles() {
    for (body, part) in [
        (&b"."[..], "more values"),
        (b"}", "ends in the middle"),
        (b"}.}", "left over"),
        (b"}}.", "left over"),
        (b"(}.", "left over"),
        (b"K\x01.", "holds no dictionary"),
        (b"}X\x01\0\0\0aK\x01s.", "tensor \"a\": is no tensor"),
        (b"}K\x01K\x01s.", "a key that is no text"),
        (b"}q\0X\x01\0\0\0ah\0s.", "is no tensor"), // holds itself
        (b"}(K\x01u.", "a key without a value"),
        (b"}(s.", "more values"), // across a mark
        (b"t.", "no mark"),
        (b"h\x07.", "nothing was remembered"),
        (b"}X\xff\xff\xff\xffa.", "ends in the middle"),
        (b"}X\x01\0\0\0\xff.", "not UTF-8"),
        (b"ctorch\nFloatStorage\n)R.", "a call of something"),
        (b"ccollections\nOrderedDict\nK\x01\x85R.", "a call of something"),
        (b"}}X\x08\0\0\0__dict__}sb.", "another attribute"),
        (b"K\x01Q.", "not the description of a storage"),
        (b"c__builtin__\neval\n.", "`__builtin__.eval` is not allowed"),
    ] {
        let message = message(&with_pickle(body));
        assert!(message.contains(part), "{}: {message}", body.escape_ascii());
    }
    assert!(message(&zipped(&[("x/data.pkl", b"\x80\x04}.")])).contains("protocol 4"));
}

/// Each step doubles what Python would hold; and a tuple a million deep would overflow the stack of a recursive drop.
#[test]
fn bombs_stay_small() {
    let mut doubling = b")q\0".to_vec();
    doubling.extend(b"h\0h\0\x86q\0".repeat(100_000));
    let mut nested = b")".to_vec();
    nested.extend(b"\x85".repeat(1_000_000));
    let mut marks = b"(".repeat(1_000_000);
    marks.extend(b"t".repeat(1_000_000));
    for (body, says) in [
        (doubling, "pickle, byte 700006: values are left over at the end"),
        (nested, "pickle, byte 1000004: holds no dictionary of tensors"),
        (marks, "pickle, byte 2000003: holds no dictionary of tensors"),
    ] {
        assert_eq!(read(&with_pickle(&[&body[..], b"."].concat())).unwrap_err().to_string(), says);
    }
    let huge = with_pickle(&vec![b'}'; 17 << 20]);
    assert!(message(&huge).contains("at most 16777216 can be right"));
}

/// Many tensors over one storage must not make much out of little.
#[test]
fn shared_storages_are_bounded() {
    let pickle = |n: usize| {
        let mut body =
            [b"}(X\x05\0\0\0first", &tensor(4, "K\0", "(K\x04t", "(K\x01t")[..], b"q\x01"].concat();
        (0..n).for_each(|i| body.extend([format!("X\x05\0\0\0{i:05}").as_bytes(), b"h\x01"].concat()));
        body.extend(b"u.");
        with_pickle(&body)
    };
    assert_eq!(read(&pickle(3)).unwrap().len(), 4);
    // 16 bytes of tensor for 12 of pickle are fine.
    assert_eq!(read(&pickle(1000)).unwrap().len(), 1001);
    let big = write(&[("a".into(), Tensor::zeros([1 << 16], (Kind::Float, Device::Cpu)))]).unwrap();
    let mut archive = super::archive::Archive::open(&big).unwrap();
    let (one, storage) = (archive.pickle().unwrap(), archive.storage("0", 1 << 18).unwrap());
    let tensor = &one[b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\0\0\0a".len()..one.len() - 2];
    let mut many = [b"\x80\x02}(X\x01\0\0\0a", tensor, b"q\x01"].concat();
    (b'b'..b'z').for_each(|name| many.extend([b"X\x01\0\0\0", &[name][..], b"h\x01"].concat()));
    many.extend(b"u.");
    let many = zipped(&[("x/data.pkl", &many), ("x/data/0", &storage)]);
    assert!(message(&many).contains("much larger than the file"), "{}", message(&many));
}

#[test]
fn damage_never_panics() {
    for file in [STATE_DICT, VIEWS] {
        for end in 0..file.len() {
            assert!(read(&file[..end]).is_err());
        }
        let mut bytes = file.to_vec();
        for at in 0..bytes.len() {
            for mask in [1, 0x80, 0xff, 0x20] {
                bytes[at] ^= mask;
                let _any_answer = read(&bytes);
                bytes[at] ^= mask;
            }
        }
    }
}

/// As above, past the check sums: the pickle itself is damaged.
#[test]
fn damaged_pickles_never_panic() {
    let mut archive = super::archive::Archive::open(VIEWS).unwrap();
    let pickle = archive.pickle().unwrap();
    let storages: Vec<_> = (0..7).map(|i| archive.storage(&i.to_string(), 1000).unwrap()).collect();
    let names: Vec<_> = (0..7).map(|i| format!("x/data/{i}")).collect();
    let rewrap = |pickle: &[u8]| {
        let mut entries = vec![("x/data.pkl", pickle)];
        entries.extend(names.iter().map(String::as_str).zip(storages.iter().map(Vec::as_slice)));
        zipped(&entries)
    };
    assert_eq!(read(&rewrap(&pickle)).unwrap().len(), 8);
    for end in 0..pickle.len() {
        assert!(read(&rewrap(&pickle[..end])).is_err());
    }
    for at in 0..pickle.len() {
        for new in [0, 1, 0x7f, 0xff, b'(', b'.', b'}', b'R', b'u', pickle[at] ^ 1] {
            let mut damaged = pickle.clone();
            damaged[at] = new;
            let _any_answer = read(&rewrap(&damaged));
        }
    }
}
