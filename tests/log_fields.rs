//! What the journal is told beside the words: stage, track, n and cid, under the same names everywhere.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skywave::appliance::Appliance;
use skywave::clock::SystemClock;
use skywave::config::Config;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Bounds every wait. Generous: it is met only where something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fields of an event and of the spans around it, as the journal's layer gathers them.
#[derive(Debug, Clone, Default, PartialEq)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Fields {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// A journal in memory.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<(Level, Fields)>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Journal {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !event.metadata().target().starts_with("skywave") {
            return;
        }
        let mut all = Fields::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                all.0.extend(fields.0.clone());
            }
        }
        event.record(&mut all);
        self.0.lock().unwrap().push((*event.metadata().level(), all));
    }
}

impl Journal {
    /// Waits for the line with this message.
    async fn line(&self, message: &str) -> Fields {
        let look = async {
            loop {
                let found =
                    self.0.lock().unwrap().iter().find(|(_, line)| line.get("message") == message).cloned();
                match found {
                    Some((_, line)) => return line,
                    None => tokio::time::sleep(Duration::from_millis(25)).await,
                }
            }
        };
        let late = |_| panic!("no line {message:?} in {:#?}", self.0.lock().unwrap());
        tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(late)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_name_their_stage_track_number_and_cid() {
    let journal = Journal::default();
    let everything = tracing_subscriber::registry().with(journal.clone());
    tracing::subscriber::set_global_default(everything).expect("the only test of this binary");
    let home = tempfile::tempdir().unwrap();
    let music = home.path().join("music");
    std::fs::create_dir(&music).unwrap();
    let noise = music.join("noise.mp3");
    std::fs::write(&noise, "this is no audio, whatever its name says").unwrap();

    let mut config = Config::default();
    config.station.data = home.path().join("data");
    config.library.music = vec![music.clone(), home.path().join("stick")];
    config.library.settle = Duration::ZERO;
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    config.ipfs.offline = true;
    let clock = Arc::new(SystemClock::new(config.ipfs.clock));
    let station = Appliance::start(&config, clock).await.unwrap();

    let skipped = journal.line("file cannot be played: skipped").await;
    assert_eq!(
        (skipped.get("stage"), skipped.get("track")),
        ("library", noise.to_str().unwrap()),
        "{skipped:?}"
    );
    let missing = journal.line("music folder is missing: waiting for it").await;
    assert_eq!(missing.get("stage"), "library");

    // The ident: no file plays.
    let on_air = journal.line("on air").await;
    assert_eq!(on_air.get("stage"), "publisher", "{on_air:?}");
    assert!(!on_air.get("track").is_empty(), "{on_air:?}");
    let tick = journal.line("tick").await;
    assert_eq!(tick.get("stage"), "publisher");
    let tree = station.tree().borrow().clone().unwrap();
    assert!(tick.get("n").parse::<u64>().is_ok_and(|n| n > 0 && n <= tree.newest), "{tick:?}");
    assert!(tick.get("cid").parse::<cid::Cid>().is_ok(), "{tick:?}");
    assert!(on_air.get("n").parse::<u64>().is_ok(), "{on_air:?}");
    station.stop().await;

    // One name for one thing: nobody calls them otherwise.
    let lines = journal.0.lock().unwrap();
    for (level, line) in lines.iter() {
        for other in ["root", "segment", "sequence_number", "file", "block"] {
            assert!(line.get(other).is_empty(), "{level}: {line:?}");
        }
    }
}
