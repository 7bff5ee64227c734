//! Both stores and the seed, on real files.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    time::Duration,
};

use lbx_common::api::{Config, Pool};
use tempfile::TempDir;
use tokio::time::timeout;

use super::{ConfigFile, Embedded, Store, StoreError};

fn with_pool(name: &str) -> Config {
    let pool = Pool::new(name.to_owned());
    Config { pools: vec![pool], ..Config::default() }
}

fn yaml(pool: &str) -> String {
    format!("version: 1\npools: [{{name: {pool}}}]\n")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn an_empty_database_holds_nothing() {
    let dir = TempDir::new().unwrap();
    assert_eq!(Embedded::open(dir.path()).unwrap().load().unwrap(), None);
    assert_eq!(Embedded::open(dir.path()).unwrap().load().unwrap(), None, "the second time");
}

#[test]
fn folder_and_database_are_made_for_their_owner_only() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("var/lbx");
    let store = Store::open(None, &state).unwrap();
    let path = state.join("lbx.redb");
    assert_eq!((mode(&state), mode(&path)), (0o700, 0o600));
    assert_eq!(store.describe(), format!("embedded {}", path.display()));
    assert_eq!(store.read_only(), None);
    let names: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["lbx.redb"], "nothing else is left there");
}

#[test]
fn what_is_saved_is_there_when_the_agent_is_killed() {
    let dir = TempDir::new().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    store.save(1, &with_pool("a")).unwrap();
    store.save(2, &with_pool("b")).unwrap();
    // A copy of the open file is what a kill leaves: nothing was closed.
    let after_kill = TempDir::new().unwrap();
    fs::copy(store.path(), after_kill.path().join("lbx.redb")).unwrap();
    let found = Embedded::open(after_kill.path()).unwrap().load().unwrap();
    assert_eq!(found, Some((2, with_pool("b"))));
    drop(store);
    assert_eq!(Embedded::open(dir.path()).unwrap().load().unwrap(), Some((2, with_pool("b"))));
}

#[test]
fn a_creation_that_was_cut_short_is_begun_anew() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(".tmpAbCdEf"), [0; 4096]).unwrap();
    assert_eq!(Embedded::open(dir.path()).unwrap().load().unwrap(), None);
}

#[test]
fn a_database_that_another_agent_has_open_is_refused() {
    let dir = TempDir::new().unwrap();
    let _first = Embedded::open(dir.path()).unwrap();
    let error = Embedded::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("lbx.redb is in use by another lbx-agent") && message.contains("--state-dir"));
}

#[test]
fn a_damaged_database_is_refused_with_a_remedy() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("lbx.redb");
    let store = Embedded::open(dir.path()).unwrap();
    store.save(1, &with_pool("a")).unwrap();
    drop(store);
    let sound = fs::read(&path).unwrap();
    let mut flipped = sound.clone();
    for byte in flipped.iter_mut().skip(4096) {
        *byte ^= 0x55;
    }
    for damaged in [b"hello".to_vec(), vec![0; sound.len()], sound[..sound.len() / 2].to_vec(), flipped] {
        fs::write(&path, &damaged).unwrap();
        let error = Embedded::open(dir.path()).and_then(|store| store.load()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains("lbx-ctl apply -f"), "{error}");
        assert_eq!(fs::read(&path).unwrap().len(), damaged.len(), "it is left for the user to look at");
    }
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Embedded::open(&file.join("lbx")).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot make {}", file.join("lbx").display())), "{error}");
}

fn open_file(content: &str) -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("lbx.yaml");
    fs::write(&path, content).unwrap();
    let store = Store::open(Some(&path), Path::new("/nowhere")).unwrap();
    (dir, store)
}

#[track_caller]
fn pool_name(store: &mut Store) -> (u64, String) {
    let (revision, config) = store.load().unwrap().unwrap();
    (revision, config.pools[0].name.clone())
}

async fn assert_changed(store: &mut Store) {
    timeout(Duration::from_secs(20), store.changed()).await.expect("no change was seen").unwrap();
}

/// That something does not happen can only be seen by waiting a while.
async fn assert_unchanged(store: &mut Store) {
    let waited = timeout(Duration::from_millis(200), store.changed()).await;
    assert!(waited.is_err(), "a change was seen");
}

#[tokio::test]
async fn a_file_written_in_place_is_seen() {
    let (dir, mut store) = open_file(&yaml("a"));
    assert_eq!(pool_name(&mut store), (1, "a".to_owned()));
    fs::write(dir.path().join("lbx.yaml"), yaml("b")).unwrap();
    assert_changed(&mut store).await;
    assert_eq!(pool_name(&mut store), (2, "b".to_owned()));
    assert_unchanged(&mut store).await;
}

#[tokio::test]
async fn a_file_replaced_by_renaming_is_seen_again_and_again() {
    let (dir, mut store) = open_file(&yaml("a"));
    pool_name(&mut store);
    for (name, revision) in [("b", 2), ("c", 3)] {
        let new = dir.path().join("new");
        fs::write(&new, yaml(name)).unwrap();
        fs::rename(&new, dir.path().join("lbx.yaml")).unwrap();
        assert_changed(&mut store).await;
        assert_eq!(pool_name(&mut store), (revision, name.to_owned()));
    }
}

#[tokio::test]
async fn a_config_map_that_moves_its_link_is_seen() {
    let dir = TempDir::new().unwrap();
    for name in ["one", "two"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("lbx.yaml"), yaml(name)).unwrap();
    }
    symlink("one", dir.path().join("..data")).unwrap();
    symlink("..data/lbx.yaml", dir.path().join("lbx.yaml")).unwrap();
    let mut store = Store::File(ConfigFile::open(&dir.path().join("lbx.yaml")).unwrap());
    assert_eq!(pool_name(&mut store), (1, "one".to_owned()));
    symlink("two", dir.path().join("..new")).unwrap();
    fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
    assert_changed(&mut store).await;
    assert_eq!(pool_name(&mut store), (2, "two".to_owned()));
    // Where the link leads now is watched as well.
    assert_unchanged(&mut store).await;
    fs::write(dir.path().join("two/lbx.yaml"), yaml("three")).unwrap();
    assert_changed(&mut store).await;
    assert_eq!(pool_name(&mut store), (3, "three".to_owned()));
}

#[tokio::test]
async fn other_files_the_same_content_and_a_missing_file_are_no_change() {
    let (dir, mut store) = open_file(&yaml("a"));
    pool_name(&mut store);
    fs::write(dir.path().join("other"), "x").unwrap();
    fs::write(dir.path().join("lbx.yaml"), yaml("a")).unwrap();
    assert_unchanged(&mut store).await;
    fs::remove_file(dir.path().join("lbx.yaml")).unwrap();
    assert_unchanged(&mut store).await;
    fs::write(dir.path().join("lbx.yaml"), yaml("b")).unwrap();
    assert_changed(&mut store).await;
}

#[tokio::test]
async fn a_wrong_file_is_reported_once_with_all_its_mistakes() {
    let (dir, mut store) = open_file("version: 1\npools: [{name: A}, {name: b, size: 1}]\nservices: 7\n");
    let path = dir.path().join("lbx.yaml");
    let message = store.load().unwrap_err().to_string();
    assert!(message.starts_with(&format!("{} has 2 mistake(s):\n{0}:2:", path.display())), "{message}");
    assert_unchanged(&mut store).await;
    fs::write(&path, yaml("a")).unwrap();
    assert_changed(&mut store).await;
    assert_eq!(pool_name(&mut store), (1, "a".to_owned()));
    fs::write(&path, b"version: 1\npools: [{name: \xff}]\n").unwrap();
    let message = store.load().unwrap_err().to_string();
    assert!(message.contains(":2: this is not text: write the file in UTF-8"), "{message}");
}

#[test]
fn a_file_is_never_written() {
    let (dir, mut store) = open_file(&yaml("a"));
    let path = dir.path().join("lbx.yaml");
    assert!(matches!(store.save(1, &with_pool("b")), Err(StoreError::ReadOnly(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), yaml("a"));
    assert_eq!(store.read_only(), Some(path.as_path()));
    assert_eq!(store.describe(), format!("file {}", path.display()));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("lbx.yaml");
    let error = ConfigFile::open(&path).unwrap().load().unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot read {}: No such file", path.display())), "{error}");
    let error = ConfigFile::open(&dir.path().join("no/lbx.yaml")).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot watch {}", dir.path().join("no").display())), "{error}");
}

mod seeds {
    use super::super::seed::{SeedError, load, load_or_make};
    use super::*;

    const DIGITS: &str = "00112233445566778899aabbccddeeff";
    const SEED: [u64; 2] = [0x0011_2233_4455_6677, 0x8899_aabb_ccdd_eeff];

    #[test]
    fn digits_are_the_seed_itself() {
        let dir = TempDir::new().unwrap();
        assert_eq!(load(Some(DIGITS), dir.path()).unwrap(), SEED);
        assert_eq!(load(Some(&DIGITS.to_uppercase()), dir.path()).unwrap(), SEED);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_seed_is_made_once_for_its_owner_only() {
        let dir = TempDir::new().unwrap();
        let state = dir.path().join("state");
        assert!(load(None, &state).is_err(), "only a start makes one");
        let made = load_or_make(None, &state).unwrap();
        assert_ne!(made, [0, 0]);
        assert_eq!(mode(&state.join("seed")), 0o600);
        assert_eq!(load(None, &state).unwrap(), made);
        assert_eq!(
            load(Some("file:seed"), &state).unwrap(),
            made,
            "a relative path is in the state directory"
        );
        assert_ne!(load_or_make(Some("file:other"), &state).unwrap(), made);
        let text = fs::read_to_string(state.join("seed")).unwrap();
        assert_eq!((text.len(), load(Some(text.trim()), &state).unwrap()), (33, made));
    }

    #[test]
    fn a_seed_copied_from_another_node_is_taken() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("seed");
        fs::write(&path, format!("{DIGITS}\n")).unwrap();
        assert_eq!(load(Some(&format!("file:{}", path.display())), Path::new("/nowhere")).unwrap(), SEED);
    }

    #[test]
    fn a_file_with_something_else_is_refused_and_kept() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("seed");
        let wrong: [&[u8]; 5] =
            [b"", &DIGITS.as_bytes()[1..], b"+0112233445566778899aabbccddeeff", b"hello", b"\xff"];
        for content in wrong {
            fs::write(&path, content).unwrap();
            let error = load(None, dir.path()).unwrap_err();
            assert!(matches!(error, SeedError::Digits(_)), "{error:?}");
            assert!(
                error.to_string().starts_with(&format!("{} does not hold a seed", path.display())),
                "{error}"
            );
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_seed_that_cannot_be_read_is_not_replaced() {
        let dir = TempDir::new().unwrap();
        // A directory: permissions would not stop root.
        fs::create_dir(dir.path().join("seed")).unwrap();
        let error = load(None, dir.path()).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot read the hash seed {}", dir.path().join("seed").display()))
        );
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(load(Some("file:file/seed"), dir.path()).is_err());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let dir = TempDir::new().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [pipe.as_path(), Path::new("/dev/zero")] {
            let error = load(Some(&format!("file:{}", path.display())), dir.path()).unwrap_err().to_string();
            assert!(error.contains("regular file"), "{error}");
        }
    }

    #[test]
    fn other_text_is_no_seed_and_is_not_shown() {
        for wrong in ["", "file:", "secret", "0x112233445566778899aabbccddeeff", &DIGITS[1..]] {
            let error = load(Some(wrong), Path::new("/nowhere")).unwrap_err().to_string();
            assert!(error.contains("write `file:PATH` or 32 hexadecimal digits"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
