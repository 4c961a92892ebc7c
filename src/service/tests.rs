use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::*;

const WATCHDOG: Duration = Duration::from_secs(60);

/// What systemd would hear.
struct Manager {
    socket: UnixDatagram,
    lines: RefCell<Vec<String>>,
}

impl Manager {
    /// A manager at a path, and the service that speaks to it.
    fn at_path(folder: &tempfile::TempDir, watchdog: Option<Duration>) -> (Self, Service) {
        let path = folder.path().join("notify");
        let manager = Self::of(UnixDatagram::bind(&path).unwrap());
        (manager, Service::new(Some(NotifySocket::open(path.as_os_str()).unwrap()), watchdog))
    }

    fn of(socket: UnixDatagram) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self { socket, lines: RefCell::default() }
    }

    /// Takes in what has come; the socket itself holds a few messages only.
    fn receive(&self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = std::str::from_utf8(&buffer[..length]).unwrap();
            self.lines.borrow_mut().extend(text.lines().map(str::to_owned));
        }
    }

    async fn listen(&self) -> Infallible {
        loop {
            self.receive();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The lines that came since the last call, in order.
    fn heard(&self) -> Vec<String> {
        self.receive();
        self.lines.take()
    }

    fn count(&self, line: &str) -> usize {
        self.heard().iter().filter(|heard| *heard == line).count()
    }
}

/// Lets the service follow health while `during` goes on.
async fn run(manager: &Manager, service: &Service, health: &Health, during: impl Future<Output = ()>) {
    tokio::select! {
        never = service.follow(health) => match never {},
        never = manager.listen() => match never {},
        () = during => {}
    }
}

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

/// Puts a segment on air every 3.84 s, so many.
async fn play(health: &Health, segments: u64) {
    for n in 0..segments {
        health.set_on_air(n);
        tokio::time::sleep(Duration::from_millis(3_840)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn ready_is_said_once_with_the_first_segment() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, service) = Manager::at_path(&folder, None);
    let health = Health::new();
    run(&manager, &service, &health, seconds(30)).await;
    assert_eq!(manager.heard(), ["STATUS=starting"], "once, though a look comes every second");
    run(&manager, &service, &health, play(&health, 8)).await;
    let heard = manager.heard();
    assert_eq!(heard.iter().filter(|line| *line == "READY=1").count(), 1);
    assert!(heard.iter().any(|line| line.starts_with("STATUS=on air")), "{heard:?}");
    assert!(!heard.iter().any(|line| line == "WATCHDOG=1"), "nobody asked for it");
    health.set_off_air("no audio");
    run(&manager, &service, &health, seconds(5)).await;
    health.set_on_air(99);
    run(&manager, &service, &health, seconds(5)).await;
    assert_eq!(manager.count("READY=1"), 0, "not again");
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_is_fed_while_audio_advances() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, service) = Manager::at_path(&folder, Some(WATCHDOG));
    let health = Health::new();
    run(&manager, &service, &health, play(&health, 100)).await;
    let fed = manager.count("WATCHDOG=1");
    assert!((99..=101).contains(&fed), "one for each of 100 segments: {fed}");
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_starves_while_audio_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, service) = Manager::at_path(&folder, Some(WATCHDOG));
    let health = Health::new();
    // Well by every word, and no segment comes.
    health.stage("publisher", None).running();
    health.set_on_air(5);
    let stand_still = async {
        seconds(2).await;
        manager.heard();
        tokio::time::sleep(WATCHDOG * 3).await;
        assert_eq!(manager.count("WATCHDOG=1"), 0);
        health.set_on_air(6);
        seconds(2).await;
        assert_eq!(manager.count("WATCHDOG=1"), 1);
    };
    run(&manager, &service, &health, stand_still).await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_waits_for_its_origin_is_vouched_for_while_it_looks_for_it_and_ready_once_it_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, service) = Manager::at_path(&folder, Some(WATCHDOG));
    let health = Health::new();
    health.set_follows("k51qzi5uqu5d");
    let relay = health.stage("relay", Some(Duration::from_secs(10)));
    relay.running();
    let wait = async {
        health.set_off_air("waiting for the origin");
        for _ in 0..600 {
            relay.progress();
            seconds(1).await;
        }
        let heard = manager.heard();
        let count = |line: &str| heard.iter().filter(|heard| *heard == line).count();
        assert_eq!(count("READY=1"), 0);
        // Through ten minutes without an origin.
        assert!(count("WATCHDOG=1") > 590, "{heard:?}");
        assert!(count("EXTEND_TIMEOUT_USEC=60000000") > 590, "{heard:?}");
        // Its stage hangs.
        seconds(20).await;
        manager.heard();
        tokio::time::sleep(WATCHDOG * 3).await;
        let heard = manager.heard();
        let vouched = ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=60000000"];
        assert!(!heard.iter().any(|line| vouched.contains(&line.as_str())), "{heard:?}");
        // On air, it is held to what is heard.
        relay.progress();
        health.set_on_air(5);
        seconds(2).await;
        assert_eq!(manager.count("READY=1"), 1);
        for _ in 0..100 {
            relay.progress();
            seconds(1).await;
        }
        assert_eq!(manager.count("WATCHDOG=1"), 0);
        // Off it again: it is ready already, and waits.
        health.set_off_air("waiting for the origin");
        for _ in 0..10 {
            relay.progress();
            seconds(1).await;
        }
        let heard = manager.heard();
        assert!(heard.iter().filter(|line| *line == "WATCHDOG=1").count() >= 9, "{heard:?}");
        assert!(!heard.iter().any(|line| line.starts_with("EXTEND")), "{heard:?}");
    };
    run(&manager, &service, &health, wait).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_is_not_vouched_for() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, service) = Manager::at_path(&folder, Some(WATCHDOG));
    let health = Health::new();
    let hang = async {
        seconds(119).await;
        assert!(manager.count("WATCHDOG=1") > 100);
        seconds(3).await;
        manager.heard();
        tokio::time::sleep(WATCHDOG * 3).await;
        assert_eq!(manager.count("WATCHDOG=1"), 0);
    };
    run(&manager, &service, &health, hang).await;
}

#[tokio::test(start_paused = true)]
async fn a_short_watchdog_is_fed_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, service) = Manager::at_path(&folder, Some(Duration::from_millis(500)));
    run(&manager, &service, &Health::new(), seconds(2)).await;
    assert!(manager.count("WATCHDOG=1") >= 8);
}

#[tokio::test(start_paused = true)]
async fn a_reload_is_told_with_its_time_and_the_end_too() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, service) = Manager::at_path(&folder, None);
    service.reloading();
    service.reloaded();
    assert!(manager.heard().is_empty(), "not before it was ready: that would be a false READY");
    let health = Health::new();
    health.set_on_air(1);
    run(&manager, &service, &health, seconds(2)).await;
    manager.heard();
    let before = clock_gettime(ClockId::Monotonic);
    service.reloading();
    service.reloaded();
    service.stopping();
    let heard = manager.heard();
    let time = heard[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse::<i64>().unwrap();
    assert!(time >= before.tv_sec * 1_000_000 + before.tv_nsec / 1_000, "{time}: systemd would ignore it");
    assert!(time < (before.tv_sec + 60) * 1_000_000);
    assert_eq!(heard[0], "RELOADING=1");
    assert_eq!(heard[2..], ["READY=1", "STOPPING=1", "STATUS=shutting down"]);
}

#[tokio::test(start_paused = true)]
async fn an_abstract_address_is_spoken_to() {
    let name = format!("skywave-test-{}", fastrand::u64(..));
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = Manager::of(UnixDatagram::bind_addr(&address).unwrap());
    let socket = NotifySocket::open(OsStr::new(&format!("@{name}"))).unwrap();
    Service::new(Some(socket), None).stopping();
    assert_eq!(manager.heard()[0], "STOPPING=1");
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_is_gone_or_does_not_read_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, service) = Manager::at_path(&folder, Some(Duration::from_millis(2)));
    // Nobody reads: the queue of the socket is full after some hundred messages.
    let health = Health::new();
    tokio::select! {
        never = service.follow(&health) => match never {},
        () = seconds(10) => {}
    }
    drop(manager);
    service.stopping();
    assert!(NotifySocket::open(OsStr::new("vsock:2:1234")).is_err());
    assert!(NotifySocket::open(OsStr::new(&format!("/{}", "x".repeat(200)))).is_err());
}
