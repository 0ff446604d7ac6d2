//! Tells a folder from a hub id by its spelling.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::HubError;

/// What the user named.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ModelName {
    /// A folder: it exists, or its spelling could be nothing else.
    Folder(PathBuf),
    /// A hub id and its branch, tag or commit.
    Id { id: String, revision: String },
}

impl ModelName {
    /// What exists on disk wins; what looks like a path is never looked up on the hub.
    pub(super) fn parse(model: impl AsRef<OsStr>, revision: Option<&str>) -> Result<Self, HubError> {
        let Some(model) = model.as_ref().to_str() else { return Ok(Self::Folder(model.as_ref().into())) };
        let path = expand_home(model, std::env::var("HOME").ok().as_deref());
        if looks_like_path(model) || path.exists() {
            return Ok(Self::Folder(path));
        }
        let (id, in_name) = match model.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (model, None),
        };
        if let Some(why) = id_fault(id) {
            return Err(HubError::BadId { id: model.to_owned(), why });
        }
        let revision = match (in_name, revision) {
            (Some(a), Some(b)) if a != b => {
                return Err(HubError::TwoRevisions { in_name: a.to_owned(), option: b.to_owned() });
            }
            (Some(one), _) | (None, Some(one)) => one,
            (None, None) => "main",
        };
        if !valid_revision(revision) {
            return Err(HubError::BadRevision { revision: revision.to_owned() });
        }
        Ok(Self::Id { id: id.to_owned(), revision: revision.to_owned() })
    }
}

/// `~` and `~/x`, which a shell leaves alone in `--model=~/x` and in a configuration file.
pub(super) fn expand_home(path: &str, home: Option<&str>) -> PathBuf {
    match (path.strip_prefix('~'), home) {
        (Some(""), Some(home)) => PathBuf::from(home),
        (Some(rest), Some(home)) if rest.starts_with('/') => Path::new(home).join(&rest[1..]),
        _ => PathBuf::from(path),
    }
}

fn looks_like_path(model: &str) -> bool {
    // A revision may hold slashes (`refs/pr/1`), so they count in the id only.
    let id = model.split_once('@').map_or(model, |(id, _)| id);
    let starts = ["/", "~", "./", "../", "."].iter().any(|p| model.starts_with(p));
    // `fixtures/gpt2` beside a folder `fixtures`: a slip in a path, and nobody's organisation. `fixtures/gpt2@main`
    // asks the hub.
    let in_a_folder =
        !model.contains('@') && id.split_once('/').is_some_and(|(parent, _)| Path::new(parent).is_dir());
    starts || in_a_folder || model.ends_with('/') || model.contains('\\') || id.matches('/').count() > 1
}

/// Nothing is at `path`: says so, with the folder beside it that is called almost the same.
pub(super) fn no_folder(path: PathBuf) -> HubError {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folders = std::fs::read_dir(parent).into_iter().flatten().flatten().filter(|e| e.path().is_dir());
    let near = |other: &String| strsim::damerau_levenshtein(&name, other);
    let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let nearest = names.map(|other| (near(&other), other)).min();
    let meant = nearest.filter(|(distance, _)| distance * 3 <= name.chars().count());
    let mut hint = meant.map_or_else(String::new, |(_, other)| {
        let whole = path.parent().map_or_else(|| PathBuf::from(&other), |parent| parent.join(&other));
        format!("; did you mean {}?", whole.display())
    });
    if path.to_str().is_some_and(|id| id_fault(id).is_none() && id.contains('/')) {
        hint.extend([" (", &path.to_string_lossy(), "@main would ask the hub)"]);
    }
    HubError::NoFolder { path, hint }
}

/// The hub's own rules (`huggingface_hub.utils.validate_repo_id`).
fn id_fault(id: &str) -> Option<&'static str> {
    let plain = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if id.is_empty() || id.split('/').any(str::is_empty) {
        return Some("a part of it is empty");
    }
    if id.len() > 96 {
        return Some("longer than 96 characters");
    }
    if !id.split('/').all(plain) {
        return Some("only letters, digits, '-', '_' and '.' are allowed");
    }
    if id.contains("--") || id.contains("..") {
        return Some("'--' and '..' are not allowed");
    }
    if id.split('/').any(|part| part.starts_with(['-', '.']) || part.ends_with(['-', '.'])) {
        return Some("a part may not start or end with '-' or '.'");
    }
    None
}

/// Revisions become file names below `refs/`, so no part may climb out.
fn valid_revision(revision: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+');
    revision.chars().all(plain) && revision.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: &str, revision: &str) -> ModelName {
        ModelName::Id { id: id.into(), revision: revision.into() }
    }

    #[test]
    fn hub_ids() {
        assert_eq!(ModelName::parse("gpt2-none", None).unwrap(), id("gpt2-none", "main"));
        assert_eq!(ModelName::parse("org/na.me_1", Some("v1")).unwrap(), id("org/na.me_1", "v1"));
        assert_eq!(ModelName::parse("org/name@refs/pr/1", None).unwrap(), id("org/name", "refs/pr/1"));
        assert_eq!(ModelName::parse("o/n@a", Some("a")).unwrap(), id("o/n", "a"));
        assert!(matches!(ModelName::parse("o/n@a", Some("b")), Err(HubError::TwoRevisions { .. })));
    }

    #[test]
    fn path_like_names_are_folders() {
        for path in ["./m", "../m", "/m", "~/m", "~", ".", "..", "org/name/", "a/b/c", "a\\b", ".hidden"] {
            assert!(matches!(ModelName::parse(path, None), Ok(ModelName::Folder(_))), "{path}");
        }
        assert_eq!(expand_home("~/m", Some("/home/u")), Path::new("/home/u/m"));
        assert_eq!(expand_home("~user/m", Some("/home/u")), Path::new("~user/m"));
    }

    #[test]
    fn what_exists_is_a_folder() {
        assert_eq!(ModelName::parse("src", None).unwrap(), ModelName::Folder("src".into()));
    }

    #[test]
    fn a_slip_in_a_path_is_not_looked_up_on_the_hub() {
        let error = |model: &str| match ModelName::parse(model, None).unwrap() {
            ModelName::Folder(path) => no_folder(path).to_string(),
            other @ ModelName::Id { .. } => panic!("{model}: {other:?}"),
        };
        let said = "no such folder: fixtures/gpt2-alice-8; did you mean fixtures/gpt2-alice-8l? \
                    (fixtures/gpt2-alice-8@main would ask the hub)";
        assert_eq!(error("fixtures/gpt2-alice-8"), said);
        assert_eq!(error("./fixturs"), "no such folder: ./fixturs; did you mean ./fixtures?");
        assert_eq!(error("/nowhere/at/all"), "no such folder: /nowhere/at/all");
        let asked = ModelName::parse("fixtures/gpt2-alice-8@main", None).unwrap();
        assert_eq!(asked, id("fixtures/gpt2-alice-8", "main"));
        assert_eq!(ModelName::parse("nobody/gpt2-alice-8", None).unwrap(), id("nobody/gpt2-alice-8", "main"));
    }

    #[test]
    fn hostile_names() {
        for bad in
            ["", "a b", "a/", "org/-x", "a--b", "a..b", "a?b", "a%2Fb", "o/n\n", "ünï", &"x".repeat(97)]
        {
            let parsed = ModelName::parse(bad, None);
            assert!(
                matches!(parsed, Err(HubError::BadId { .. }) | Ok(ModelName::Folder(_))),
                "{bad:?}: {parsed:?}"
            );
        }
        for bad in ["", "..", "a/../b", "/a", "a//b", ".x", "a b", "a?b", "a#b"] {
            assert!(
                matches!(ModelName::parse("o/n", Some(bad)), Err(HubError::BadRevision { .. })),
                "{bad:?}"
            );
        }
    }
}
