//! The rooms of `src/` stand in one order: what a room uses never uses it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Every `.rs` file below a folder, without tests.
fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if name.ends_with("tests") || name == "cli" {
            continue;
        }
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|end| end == "rs") {
            all.push(path);
        }
    }
}

/// The rooms that a text names behind `crate::`, also within braces.
fn named(text: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut rooms = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if !rest.starts_with('{') {
            rooms.insert(word(rest));
            continue;
        }
        let (mut depth, mut start) = (0, true);
        for (i, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => start = true,
                c if depth == 1 && start && c.is_alphabetic() => {
                    rooms.insert(word(&rest[i..]));
                    start = false;
                }
                _ => {}
            }
            if depth == 1 && c == '{' {
                start = true;
            }
            if depth == 0 {
                break;
            }
        }
    }
    rooms
}

/// Which rooms each room uses.
fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms: BTreeSet<String> = fs::read_dir(&src)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && path.file_name().is_some_and(|name| name != "cli"))
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let used = |room: &String| {
        let mut files = Vec::new();
        sources(&src.join(room), &mut files);
        let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
        // Tests of a file may use what stands later.
        let texts = texts.map(|text| text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned());
        let all: BTreeSet<String> = texts.flat_map(|text| named(&text)).collect();
        let others = all.intersection(&rooms).filter(|other| *other != room).cloned().collect();
        (room.clone(), others)
    };
    rooms.iter().map(used).collect()
}

#[test]
fn no_room_uses_one_that_uses_it() {
    let mut left = uses();
    assert!(left.len() >= 8 && left["job"].len() >= 5, "{left:?}");
    assert!(left["hook"].is_empty(), "hook knows {:?}", left["hook"]);
    // Rooms whose rooms are all gone are taken away until none is left.
    while !left.is_empty() {
        let free: Vec<String> = left
            .iter()
            .filter(|(_, used)| used.iter().all(|other| !left.contains_key(other)))
            .map(|(room, _)| room.clone())
            .collect();
        assert!(!free.is_empty(), "these rooms stand in a circle: {left:?}");
        free.iter().for_each(|room| drop(left.remove(room)));
    }
}

#[test]
fn names_behind_crate_are_found() {
    let text = "use crate::{\n    hook::{Tap, a::b},\n    model::{self, Model},\n};\nuse crate::lens;";
    let found: Vec<String> = named(text).into_iter().collect();
    assert_eq!(found, ["hook", "lens", "model"]);
}
