//! Files that are written together or not at all, and never over others unless that was asked for.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::crypto::Secret;

use super::super::Failure;

/// For everyone to read.
pub const PUBLIC: u32 = 0o644;
/// For the owner only: keys, and what holds one.
pub const PRIVATE: u32 = 0o600;
/// A directory for files that everyone may read: a service with a user of its own looks for its configuration there.
const PUBLIC_DIRECTORY: u32 = 0o755;
const PRIVATE_DIRECTORY: u32 = 0o700;
const MAX_FILE: u64 = 1 << 20;

/// What is to be written below a directory.
pub struct Files {
    dir: PathBuf,
    force: bool,
    files: Vec<(PathBuf, u32, Secret)>,
}

impl Files {
    pub fn new(dir: &Path, force: bool) -> Self {
        Self { dir: dir.to_owned(), force, files: Vec::new() }
    }

    /// A file; `name` may have directories in it.
    pub fn add(&mut self, name: impl AsRef<Path>, mode: u32, content: impl Into<Vec<u8>>) {
        self.files.push((self.dir.join(name), mode, Secret::new(content.into())));
    }

    /// Writes all, unless one is there already; a line for each.
    pub fn write(self) -> Result<String, Failure> {
        let there = self.files.iter().find(|(path, _, _)| !self.force && path.symlink_metadata().is_ok());
        if let Some((path, _, _)) = there {
            return Err(Failure::Configuration(format!("{} exists; --force overwrites it", path.display())));
        }
        let mut lines = String::new();
        for (path, mode, content) in &self.files {
            write(path, *mode, content.expose()).map_err(|why| failure(path, "write", &why))?;
            lines.push_str(&format!("wrote {}\n", path.display()));
        }
        Ok(lines)
    }
}

fn write(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists()) {
        DirBuilder::new().recursive(true).create(dir)?;
        let open = if mode == PUBLIC { PUBLIC_DIRECTORY } else { PRIVATE_DIRECTORY };
        fs::set_permissions(dir, Permissions::from_mode(open))?;
    }
    // Beside it first: the old file stays whole until the new one is, and its mode does not matter.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    // A careful umask must not hide from the service what is public.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    fs::rename(&new, path)
}

/// The text of a small file.
pub fn read(path: &Path) -> Result<String, Failure> {
    let text = fs::metadata(path).and_then(|metadata| {
        if metadata.len() > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
        }
        fs::read_to_string(path)
    });
    text.map_err(|why| failure(path, "read", &why))
}

/// The files of a directory with this extension, by name; none where there is no directory.
pub fn with_extension(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, Failure> {
    let entries = match fs::read_dir(dir) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
    };
    let mut paths: Vec<_> = entries
        .map_err(|why| failure(dir, "read", &why))?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    Ok(paths)
}

fn failure(path: &Path, what: &str, why: &io::Error) -> Failure {
    let text = format!("cannot {what} {}: {why}", path.display());
    match why.kind() {
        io::ErrorKind::PermissionDenied => {
            Failure::Permission(format!("{text}; use sudo, or another directory with --dir"))
        }
        io::ErrorKind::NotFound => Failure::Configuration(text),
        _ => Failure::Runtime(text),
    }
}
