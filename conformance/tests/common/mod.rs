//! Folders of vectors, and the command run on them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The recording of that name.
pub(crate) fn recording(name: &str) -> &'static str {
    let found = conformance::fixtures::ALL
        .iter()
        .find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no recording {name}")).1
}

/// The vector of that name, to be changed.
pub(crate) fn recorded(name: &str) -> Value {
    serde_json::from_str(recording(name)).unwrap()
}

/// A fresh folder that holds `files`, by name and content.
pub(crate) fn folder(name: &str, files: &[(&str, String)]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

pub(crate) fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// The exit code and the output of the command, which writes to standard output alone.
pub(crate) fn told(folder: &Path, args: &[&str]) -> (i32, String) {
    let output = run(folder, args);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
    )
}
