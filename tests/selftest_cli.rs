//! `selftest statistics`, as a user runs it.

use serde_json::Value;

use crate::cli::{end, layerscope};

#[test]
fn the_promises_are_kept_and_the_numbers_can_be_read() {
    let ended =
        end(layerscope().args(["selftest", "statistics", "--samples", "60", "--sets", "10", "--json"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let last: Value = serde_json::from_str(ended.out.lines().last().unwrap()).unwrap();
    for (part, rows) in [("coverage", 263), ("tests", 29), ("selection", 4), ("leaks", 6)] {
        assert_eq!(last[part].as_array().unwrap().len(), rows, "{part}");
    }
    let first = &last["coverage"][0];
    assert_eq!((first["number"].as_str(), first["sizes"].as_str()), (Some("mean loss"), Some("equal")));
    let people = end(layerscope().args(["selftest", "statistics", "--samples", "60", "--sets", "0"]));
    assert!(people.out.starts_with("share of 95 % intervals that hold the truth"), "{people:?}");
    assert!(!people.out.contains("permutation tests") && people.err.contains("promises kept"), "{people:?}");
}
