//! One writer at a time, whatever is lost on the way; against a local folder, as every cloud's bucket behaves alike.

use super::*;

/// Counts its changes and keeps the words.
#[derive(Debug, Default)]
struct Words {
    words: Vec<String>,
    damaged: Vec<String>,
}

impl State for Words {
    type Change = Word;
    type Base = Vec<String>;

    fn apply(&mut self, change: &Word) {
        self.words.push(change.word.clone());
    }

    fn base(&self) -> Vec<String> {
        self.words.clone()
    }

    fn restore(base: Vec<String>) -> Self {
        Self {
            words: base,
            damaged: Vec::new(),
        }
    }

    fn damaged(&mut self, reason: String) {
        self.damaged.push(reason);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Word {
    word: String,
}

fn word(word: &str) -> Word {
    Word { word: word.into() }
}

fn log(folder: &tempfile::TempDir) -> Log {
    let storage = Storage::from_url(&folder.path().display().to_string()).unwrap();
    Log::new(storage, "cluster/journal", "the cluster")
}

#[tokio::test]
async fn changes_are_read_back_in_order_by_whoever_comes_next() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(&folder);
    assert!(log.read::<Words>().await.unwrap().leader().is_none());
    let mut first = log.claim::<Words>("http://a").await.unwrap();
    first.append(vec![word("one")]).await.unwrap();
    first.append(vec![word("two"), word("three")]).await.unwrap();
    assert_eq!(first.append(vec![]).await.unwrap(), []);
    let read = log.read::<Words>().await.unwrap();
    assert_eq!(read.state.words, ["one", "two", "three"]);
    assert_eq!(read.leader(), Some((1, "http://a")));

    let mut second = log.claim::<Words>("http://b").await.unwrap();
    assert_eq!((second.epoch(), second.state().words.len()), (2, 3));
    assert!(matches!(first.check().await, Err(Error::Superseded(_))));
    let error = first.append(vec![word("late")]).await.unwrap_err().to_string();
    assert!(error.contains("taken over the cluster"), "{error}");
    second.append(vec![word("four")]).await.unwrap();
    let read = log.read::<Words>().await.unwrap();
    assert_eq!(read.state.words, ["one", "two", "three", "four"]);
    assert_eq!(read.leader(), Some((2, "http://b")));
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_counts_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(&folder);
    let mut writer = log.claim::<Words>("a").await.unwrap();
    // As if the put had arrived and its answer had not.
    let lost: EntryOf<Words> = Entry {
        id: "lost".into(),
        writer: writer_id(&log).await,
        record: Record::Change(word("lost")),
    };
    let place = log.path(1, 2);
    assert!(log.storage.put_if_absent(&place, lost.encode().unwrap()).await.unwrap());
    let counted = writer.append(vec![word("next")]).await.unwrap();
    assert_eq!(counted, [word("lost"), word("next")]);
    assert_eq!(writer.state().words, ["lost", "next"]);
    assert_eq!(log.read::<Words>().await.unwrap().state.words, ["lost", "next"]);
}

async fn writer_id(log: &Log) -> String {
    log.entry::<Words>(1, 0).await.unwrap().writer
}

#[tokio::test]
async fn another_writers_record_in_ones_own_place_means_superseded() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(&folder);
    let mut writer = log.claim::<Words>("a").await.unwrap();
    let seal: EntryOf<Words> = Entry {
        id: "x".into(),
        writer: "another".into(),
        record: Record::Sealed { by: 2 },
    };
    let place = log.path(1, 2);
    assert!(log.storage.put_if_absent(&place, seal.encode().unwrap()).await.unwrap());
    assert!(matches!(
        writer.append(vec![word("x")]).await,
        Err(Error::Superseded(_))
    ));
    assert!(matches!(writer.check().await, Err(Error::Superseded(_))));
    assert_eq!(log.read::<Words>().await.unwrap().state.words, Vec::<String>::new());
}

#[tokio::test]
async fn the_log_stays_in_proportion_to_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(&folder);
    for _ in 0..3 {
        let mut writer = log.claim::<Words>("a").await.unwrap();
        for number in 0..500 {
            writer.append(vec![word(&number.to_string())]).await.unwrap();
            // Only the last few matter.
            let words = &mut writer.state_mut().words;
            words.drain(..words.len().saturating_sub(5));
        }
    }
    assert_eq!(
        log.claim::<Words>("a").await.unwrap().state().words.last().unwrap(),
        "499"
    );
    let records = log.places().await.unwrap().len();
    assert!(records < 300, "{records} records");
}

#[tokio::test]
async fn damage_is_told_until_a_base_repeats_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(&folder);
    let mut writer = log.claim::<Words>("a").await.unwrap();
    writer.append(vec![word("one")]).await.unwrap();
    writer.append(vec![word("two")]).await.unwrap();
    let path = folder.path().join(log.path(1, 2));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let state = log.read::<Words>().await.unwrap().state;
    assert_eq!(state.words, ["two"]);
    assert!(
        state.damaged[0].contains("0000000001/0000000002 is damaged"),
        "{:?}",
        state.damaged
    );
    // The successor's base is what it could read.
    log.claim::<Words>("b").await.unwrap();
    let state = log.read::<Words>().await.unwrap().state;
    assert_eq!((state.words.len(), state.damaged.len()), (1, 0));
}

#[test]
fn a_record_is_a_line_that_people_can_read() {
    let entry: Entry<Vec<String>, Word> = Entry {
        id: "i".into(),
        writer: "w".into(),
        record: Record::Group(vec![word("a")]),
    };
    let line = entry.encode().unwrap();
    let text = std::str::from_utf8(&line).unwrap();
    assert_eq!(&text[..5], "MSJ1 ");
    assert_eq!(
        &text[13..],
        " {\"id\":\"i\",\"writer\":\"w\",\"record\":{\"group\":[{\"word\":\"a\"}]}}\n"
    );
    let read: Entry<Vec<String>, Word> = Entry::decode(&line, "there").unwrap();
    assert!(matches!(read.record, Record::Group(words) if words == [word("a")]));
    let mut flipped = line.to_vec();
    flipped[30] ^= 1;
    assert!(Entry::<Vec<String>, Word>::decode(&flipped, "there").is_err());
}

fn leader(cluster: &str, epoch: u64) -> Option<Leadership> {
    let cluster = cluster.to_string();
    Some(Leadership { cluster, epoch })
}

#[tokio::test]
async fn a_deposed_leader_cannot_claim_over_its_successor() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(&folder);
    let mut old = log.claim_for::<Words>("old", leader("c", 4)).await.unwrap();
    old.append(vec![word("old")]).await.unwrap();
    let mut new = log.claim_for::<Words>("new", leader("c", 5)).await.unwrap();
    let refused = log.claim_for::<Words>("old", leader("c", 4)).await.unwrap_err();
    assert!(matches!(refused, Error::Superseded(_)), "{refused}");
    new.append(vec![word("new")]).await.unwrap();
    // The same leader, a later one, another cluster's, and a process of its own.
    for claimed_by in [leader("c", 5), leader("c", 6), leader("d", 1), None] {
        let epoch = log
            .claim_for::<Words>("next", claimed_by.clone())
            .await
            .unwrap()
            .epoch();
        let claimant = log.claimant::<Words>().await.unwrap().unwrap();
        assert_eq!((claimant.epoch, claimant.leader), (epoch, claimed_by));
    }
}

/// Both find the same last claim, and both put the next: the deposed leader's is refused whichever comes first.
#[tokio::test]
async fn a_deposed_leader_that_claims_at_the_same_moment_never_has_the_last_claim() {
    for _ in 0..50 {
        let folder = tempfile::tempdir().unwrap();
        let log = log(&folder);
        log.claim::<Words>("before").await.unwrap();
        let (old, new) = tokio::join!(
            log.claim_for::<Words>("old", leader("c", 4)),
            log.claim_for::<Words>("new", leader("c", 5))
        );
        let new = new.unwrap();
        assert!(old.map_or_else(
            |error| matches!(error, Error::Superseded(_)),
            |old| old.epoch() < new.epoch()
        ));
        assert_eq!(log.claimant::<Words>().await.unwrap().unwrap().leader, leader("c", 5));
    }
}

#[tokio::test]
async fn a_claim_of_an_earlier_version_has_no_leader() {
    let record: Record<Vec<String>, Word> = serde_json::from_str(r#"{"claimed":{"owner":"http://a"}}"#).unwrap();
    assert!(matches!(record, Record::Claimed { leader: None, .. }));
    let none = Record::<Vec<String>, Word>::Claimed {
        owner: "http://a".into(),
        leader: None,
    };
    assert_eq!(
        serde_json::to_string(&none).unwrap(),
        r#"{"claimed":{"owner":"http://a"}}"#
    );
}

#[tokio::test]
async fn an_append_whose_future_was_dropped_is_found_out_by_one_without_changes() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(&folder);
    for polls in 0.. {
        let mut writer = log.claim::<Words>("a").await.unwrap();
        let before = writer.state().words.len();
        let mut append = Box::pin(writer.append(vec![word("dropped")]));
        let mut done = false;
        for _ in 0..polls {
            done |= futures::poll!(&mut append).is_ready();
            if done {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        drop(append);
        if done {
            assert!(polls > 1, "it was dropped in the middle before");
            return;
        }
        let returned = writer.append(Vec::new()).await.unwrap().len();
        assert!(!writer.is_uncertain());
        let read = log.read::<Words>().await.unwrap().state.words;
        assert_eq!((&read, read.len()), (&writer.state().words, before + returned));
    }
}
