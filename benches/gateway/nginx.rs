//! nginx with a folder of static files, as its documentation sets it up for speed.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::process::cpu_seconds;
use crate::support::station::wait_until;

/// The master and its workers; ended with the bench.
pub(crate) struct Nginx {
    master: Child,
    port: u16,
}

impl Nginx {
    pub(crate) fn available() -> bool {
        Command::new("nginx").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    }

    pub(crate) fn start(folder: &Path, files: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = folder.join("nginx");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("nginx.conf"), configuration(&place, files, port)).unwrap();
        let prefix = place.to_str().unwrap();
        let master = Command::new("nginx")
            .args(["-p", prefix, "-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { master, port };
        wait_until("nginx", || TcpStream::connect(("127.0.0.1", port)).ok());
        nginx
    }

    pub(crate) fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// CPU time of the master and all workers.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let id = self.master.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let workers: f64 = children.split_whitespace().map(|pid| cpu_seconds(pid.parse().unwrap())).sum();
        assert!(workers > 0.0 || !children.is_empty(), "nginx has no worker");
        workers + cpu_seconds(id)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM, so that the master takes its workers along.
        let _ = Command::new("kill").arg(self.master.id().to_string()).status();
        let _ = self.master.wait();
    }
}

/// One worker per core; no log, no limit on what one connection may ask for. The workers run as root where the bench
/// does, since the folder is nobody else's.
fn configuration(place: &Path, files: &Path, port: u16) -> String {
    let place = place.display();
    let user = if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        "user root;"
    } else {
        ""
    };
    format!(
        "{user} daemon off; worker_processes auto; pid {place}/nginx.pid; error_log {place}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type audio/mp4;\n\
         open_file_cache max=1000 inactive=60s;\n\
         client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;\n\
         uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;\n\
         server {{ listen 127.0.0.1:{port}; root {}; }}\n\
         }}\n",
        files.display()
    )
}
