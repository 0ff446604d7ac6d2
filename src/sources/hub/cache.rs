//! The Hugging Face cache's layout, read side.

use std::path::{Path, PathBuf};

use super::{HubError, files};

/// One commit of a model in the cache.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) path: PathBuf,
    pub(super) commit: String,
}

/// What the cache knows of a model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Every file that a model needs is there.
    Whole(Snapshot),
    /// The first thing that is not.
    Lacks(String),
}

/// `models--org--name`
pub(super) fn repo_dir(cache: &Path, id: &str) -> PathBuf {
    cache.join(format!("models--{}", id.replace('/', "--")))
}

/// Looks for `revision` of `id`, without the network.
pub(super) fn find(cache: &Path, id: &str, revision: &str) -> Result<Found, HubError> {
    let repo = repo_dir(cache, id);
    let Some(commit) = commit_of(&repo, revision)? else {
        return Ok(Found::Lacks(format!("this {}", if repo.is_dir() { "revision" } else { "model" })));
    };
    let path = repo.join("snapshots").join(&commit);
    Ok(match files::missing_file(&path)? {
        None => Found::Whole(Snapshot { path, commit }),
        Some(missing) => Found::Lacks(missing),
    })
}

/// A branch or tag is a small file with the commit in it; a commit is itself the folder's name.
fn commit_of(repo: &Path, revision: &str) -> Result<Option<String>, HubError> {
    let reference = repo.join("refs").join(revision);
    let commit = if reference.is_file() {
        std::fs::read_to_string(&reference).map_err(HubError::io(&reference))?.trim().to_owned()
    } else {
        revision.to_owned()
    };
    Ok((is_commit(&commit) && repo.join("snapshots").join(&commit).is_dir()).then_some(commit))
}

/// Commits become folder names, so nothing but hex digits is one.
pub(super) fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn branch_and_commit_lead_to_the_snapshot() {
        let cache = tempfile::tempdir().unwrap();
        let repo = repo_dir(cache.path(), "org/name");
        assert!(repo.ends_with("models--org--name"));
        let path = repo.join("snapshots").join(COMMIT);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::create_dir_all(repo.join("refs/refs/pr")).unwrap();
        std::fs::write(repo.join("refs/refs/pr/1"), COMMIT).unwrap();
        assert_eq!(find(cache.path(), "org/name", "refs/pr/1").unwrap(), Found::Lacks("config.json".into()));
        assert_eq!(find(cache.path(), "org/name", "main").unwrap(), Found::Lacks("this revision".into()));
        assert_eq!(find(cache.path(), "org/other", "main").unwrap(), Found::Lacks("this model".into()));
        for name in ["config.json", "tokenizer.json", "model.safetensors"] {
            std::fs::write(path.join(name), "").unwrap();
        }
        let whole = Found::Whole(Snapshot { path, commit: COMMIT.into() });
        assert_eq!(find(cache.path(), "org/name", COMMIT).unwrap(), whole);
        assert_eq!(find(cache.path(), "org/name", "refs/pr/1").unwrap(), whole);
    }

    #[test]
    fn a_reference_cannot_lead_out_of_the_cache() {
        let cache = tempfile::tempdir().unwrap();
        let repo = repo_dir(cache.path(), "m");
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::create_dir_all(repo.join("snapshots")).unwrap();
        std::fs::write(repo.join("refs/main"), "../..").unwrap();
        assert_eq!(find(cache.path(), "m", "main").unwrap(), Found::Lacks("this revision".into()));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_lost_blob_is_missing() {
        let cache = tempfile::tempdir().unwrap();
        let path = repo_dir(cache.path(), "m").join("snapshots").join(COMMIT);
        std::fs::create_dir_all(&path).unwrap();
        std::os::unix::fs::symlink("../../blobs/gone", path.join("config.json")).unwrap();
        assert_eq!(find(cache.path(), "m", COMMIT).unwrap(), Found::Lacks("config.json".into()));
    }
}
