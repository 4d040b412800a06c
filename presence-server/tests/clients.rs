//! Real clients against the real server: phoenix.js and the project's own client, under Node and in
//! Chromium. The tests themselves are in `tests/clients`; here they are run.
//!
//! They need Node, the packages of `tests/clients` and, some of them, Chromium. Where these are missing
//! a test says so and passes; with `PRESENCE_REQUIRE_CLIENTS=1` it fails.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest Node that the packages run on.
const NODE: u32 = 20;

#[test]
fn the_guide_under_node() {
    run("node.test.js", &[]);
}

#[test]
fn replies_broadcasts_and_binary_payloads() {
    run("calls.test.js", &[]);
}

#[test]
fn the_guide_in_chromium() {
    match chromium() {
        Ok(chromium) => run("chromium.test.js", &[("CHROMIUM", &chromium)]),
        Err(missing) => skip(&missing),
    }
}

/// The project's client by itself, without a server; it needs Node alone.
#[test]
fn the_client_with_fakes() {
    match node() {
        Ok(()) => run_in(&crate_folder().join("client"), &[], &[]),
        Err(missing) => skip(&missing),
    }
}

/// Runs the tests of one file.
fn run(file: &str, environment: &[(&str, &Path)]) {
    let folder = crate_folder().join("tests/clients");
    if let Err(missing) = node().and_then(|()| packages(&folder)) {
        return skip(&missing);
    }
    run_in(&folder, &[file], environment);
}

fn run_in(folder: &Path, files: &[&str], environment: &[(&str, &Path)]) {
    let ran = Command::new("node")
        .args(["--test", "--test-reporter=spec"])
        .args(files)
        .current_dir(folder)
        .env("PRESENCE_SERVER", env!("CARGO_BIN_EXE_presence-server"))
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
}

fn node() -> Result<(), String> {
    let asked = Command::new("node").arg("--version").output();
    let asked = asked.map_err(|_| format!("there is no Node: install version {NODE} or later"))?;
    let version = String::from_utf8_lossy(&asked.stdout);
    let version = version.trim().trim_start_matches('v');
    let major = version.split('.').next().and_then(|it| it.parse().ok());
    match major {
        Some(NODE..) => Ok(()),
        _ => Err(format!(
            "Node is of version {version:?}: install {NODE} or later"
        )),
    }
}

fn packages(folder: &Path) -> Result<(), String> {
    for package in ["phoenix", "playwright-core", "ws"] {
        let installed = folder.join("node_modules").join(package);
        if !installed.join("package.json").is_file() {
            return Err(format!(
                "the npm package {package} is missing: run `npm ci --prefix presence-server/tests/clients`"
            ));
        }
    }
    Ok(())
}

/// The browser that `CHROMIUM` names, or Debian's.
fn chromium() -> Result<PathBuf, String> {
    let path = env::var_os("CHROMIUM").map_or_else(|| "/usr/bin/chromium".into(), PathBuf::from);
    match path.is_file() {
        true => Ok(path),
        false => Err(format!(
            "there is no {}: install Chromium (`apt-get install chromium`), or name one in CHROMIUM",
            path.display()
        )),
    }
}

fn skip(missing: &str) {
    let required = env::var_os("PRESENCE_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
    assert!(!required, "{missing}");
    // Past the test harness, which keeps what a passing test prints to itself.
    let _ = writeln!(io::stderr(), "skipped: {missing}");
}

fn crate_folder() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}
