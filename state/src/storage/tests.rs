//! All kinds of storage promise the same. The bucket is one in memory, and the one at `MILLSTREAM_TEST_S3_URL` if that
//! is set (with `AWS_ENDPOINT`, `AWS_ALLOW_HTTP`, credentials).

use super::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Runs a check against a folder and against buckets.
fn with_all(check: impl AsyncFn(Storage, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let local = Storage::open(&format!("file://{}/root", folder.path().display()))
            .await
            .unwrap();
        check(local, folder.path()).await;
    });
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let remote = Storage::open("memory:///root").await.unwrap();
        check(remote, folder.path()).await;
    });
    let Ok(bucket) = std::env::var("MILLSTREAM_TEST_S3_URL") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let remote = Storage::open(&format!("{bucket}/{}", uuid::Uuid::new_v4()))
            .await
            .unwrap();
        check(remote, folder.path()).await;
    });
}

#[test]
fn the_first_to_put_wins_and_nothing_is_overwritten() {
    with_all(async |storage, _| {
        assert!(
            storage
                .put_if_absent("a/b", Bytes::from_static(b"first"))
                .await
                .unwrap()
        );
        assert!(
            !storage
                .put_if_absent("a/b", Bytes::from_static(b"second"))
                .await
                .unwrap()
        );
        assert_eq!(storage.read("a/b").await.unwrap(), "first");
        assert_eq!(storage.length("a/b").await.unwrap(), Some(5));
        assert_eq!(storage.length("a/c").await.unwrap(), None);
        let error = storage.read("a/c").await.unwrap_err();
        assert!(
            matches!(&error, Error::NotFound(what) if what.contains("a/c")),
            "{error}"
        );
    });
}

#[test]
fn files_go_up_and_come_back_verified() {
    with_all(async |storage, folder| {
        // Two and a half parts of a multipart upload.
        let content: Vec<u8> = (0..20u32 << 20).map(|at| (at % 251) as u8).collect();
        let file = folder.join("file");
        std::fs::write(&file, &content).unwrap();
        let written = storage.put_file("files/big.sst", &file).await.unwrap();
        let expected = Digest {
            length: content.len() as u64,
            crc32: crc32fast::hash(&content),
        };
        assert_eq!(written, expected);
        std::fs::remove_file(&file).unwrap();
        let back = folder.join("back");
        storage
            .fetch("files/big.sst", &back, written.length, written.crc32)
            .await
            .unwrap();
        assert!(std::fs::read(&back).unwrap() == content);
        storage
            .check("files/big.sst", written.length, written.crc32)
            .await
            .unwrap();
        let error = storage
            .check("files/big.sst", written.length, 0)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("files/big.sst is damaged: checksum"), "{error}");
        let error = storage.check("files/big.sst", 1, 0).await.unwrap_err().to_string();
        assert!(
            error.contains("files/big.sst is damaged: 20971520 bytes long, written with 1"),
            "{error}"
        );
    });
}

#[test]
fn listings_are_whole_sorted_and_empty_where_nothing_is() {
    with_all(async |storage, _| {
        for path in ["j/b/2", "j/a", "j/b/1", "other"] {
            storage.put_if_absent(path, Bytes::from_static(b"x")).await.unwrap();
        }
        let paths = async || {
            storage
                .list("j")
                .await
                .unwrap()
                .into_iter()
                .map(|listed| listed.path)
                .collect::<Vec<_>>()
        };
        assert_eq!(paths().await, ["j/a", "j/b/1", "j/b/2"]);
        storage.delete("j/b/1").await.unwrap();
        storage.delete("j/b/1").await.unwrap();
        assert_eq!(paths().await, ["j/a", "j/b/2"]);
        assert!(storage.list("nothing").await.unwrap().is_empty());
    });
}

#[test]
fn a_path_cannot_leave_the_root() {
    with_all(async |storage, _| {
        for path in ["../x", "/x", "a//b", "", "a/./b"] {
            assert!(matches!(storage.read(path).await, Err(Error::Invalid(_))), "{path}");
        }
    });
}

#[test]
fn unusable_roots_say_what_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below_a_file = file.join("root").display().to_string();
    for (url, expected) in [
        ("", "the storage URL is empty"),
        ("gopher://x/y", "cannot use the storage URL gopher://x/y"),
        ("s3://[", "storage URL s3://["),
        (below_a_file.as_str(), "cannot create the folder"),
    ] {
        let error = runtime().block_on(Storage::open(url)).unwrap_err().to_string();
        assert!(error.contains(expected), "{url}: {error}");
    }
}

#[test]
fn what_a_crash_left_half_written_is_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::from_url(&folder.path().display().to_string()).unwrap();
    std::fs::create_dir(folder.path().join("j")).unwrap();
    std::fs::write(folder.path().join("j/.tmp-1234"), "half").unwrap();
    assert!(runtime().block_on(storage.list("j")).unwrap().is_empty());
}
