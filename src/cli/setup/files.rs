//! Files that are written together or not at all, and never over others unless that was asked for.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::crypto::Secret;

use super::super::Failure;

/// For everyone to read.
pub const PUBLIC: u32 = 0o644;
/// For the owner only: keys, and what holds one.
pub const PRIVATE: u32 = 0o600;
/// Directories that we make below the first one.
const DIRECTORY: u32 = 0o700;
/// The first one: the daemon is not root, and reads what is public in it.
const PUBLIC_DIRECTORY: u32 = 0o755;
const MAX_FILE: u64 = 1 << 20;

/// What to do where a file is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfThere {
    /// Write nothing at all, except with `--force`.
    Refuse,
    /// The same; but with `--force` the old file gets another name.
    KeepOld,
    /// It is ours to keep up.
    Replace,
}

/// What is to be written below a directory.
pub struct Files {
    dir: PathBuf,
    force: bool,
    files: Vec<(PathBuf, u32, Secret, IfThere)>,
}

impl Files {
    pub fn new(dir: &Path, force: bool) -> Self {
        Self { dir: dir.to_owned(), force, files: Vec::new() }
    }

    /// A file; `name` may have directories in it. One that is there is overwritten with `--force` only.
    pub fn add(&mut self, name: impl AsRef<Path>, mode: u32, content: impl Into<Vec<u8>>) {
        self.push(name, mode, content, IfThere::Refuse);
    }

    /// A file with a person's work in it, say: with `--force` the old one is kept beside it.
    pub fn add_keeping_old(&mut self, name: impl AsRef<Path>, mode: u32, content: impl Into<Vec<u8>>) {
        self.push(name, mode, content, IfThere::KeepOld);
    }

    /// A file that takes the place of the one that is there.
    pub fn replace(&mut self, name: impl AsRef<Path>, mode: u32, content: impl Into<Vec<u8>>) {
        self.push(name, mode, content, IfThere::Replace);
    }

    fn push(&mut self, name: impl AsRef<Path>, mode: u32, content: impl Into<Vec<u8>>, if_there: IfThere) {
        self.files.push((self.dir.join(name), mode, Secret::new(content.into()), if_there));
    }

    /// Writes all, unless one is there already; a line for each.
    pub fn write(self) -> Result<String, Failure> {
        let in_the_way = |path: &Path, if_there| {
            !self.force && if_there != IfThere::Replace && path.symlink_metadata().is_ok()
        };
        if let Some((path, ..)) = self.files.iter().find(|(path, _, _, if_there)| in_the_way(path, *if_there))
        {
            return Err(Failure::Configuration(format!("{} exists; --force overwrites it", path.display())));
        }
        make_directory(&self.dir).map_err(|why| failure(&self.dir, "make", &why))?;
        let mut lines = String::new();
        for (path, mode, content, if_there) in &self.files {
            if *if_there == IfThere::KeepOld
                && let Some(old) =
                    set_aside(path, content.expose()).map_err(|why| failure(path, "rename", &why))?
            {
                lines.push_str(&format!("kept the old {} as {}\n", path.display(), old.display()));
            }
            write(path, *mode, content.expose()).map_err(|why| failure(path, "write", &why))?;
            lines.push_str(&format!("wrote {}\n", path.display()));
        }
        Ok(lines)
    }
}

/// The directory of all, if it is not there yet.
fn make_directory(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.exists() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(PUBLIC_DIRECTORY).create(dir)?;
    // Whatever the umask is.
    fs::set_permissions(dir, Permissions::from_mode(PUBLIC_DIRECTORY))
}

/// Gives what is at `path` another name, unless it says the same as `content`.
fn set_aside(path: &Path, content: &[u8]) -> io::Result<Option<PathBuf>> {
    match fs::read(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(old) if old == content => return Ok(None),
        _ => {}
    }
    let named = |ending: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let endings = std::iter::once(".old".to_owned()).chain((2..).map(|number| format!(".old.{number}")));
    let free = endings.map(named).find(|old| old.symlink_metadata().is_err());
    let old = free.ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(path, &old)?;
    Ok(Some(old))
}

/// Beside it first: the old file stays whole until the new one is. The new one has its mode and owner.
fn write(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(DIRECTORY).create(dir)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&new)?;
    file.write_all(content)?;
    take_over(&file, path, mode)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Gives `file` the owner of what is at `path`, and its mode, or else `mode`. A private file stays closed to the others.
fn take_over(file: &File, path: &Path, mode: u32) -> io::Result<()> {
    let old = fs::metadata(path).ok().filter(fs::Metadata::is_file);
    let mode = match &old {
        Some(old) if mode == PRIVATE => old.mode() & 0o770,
        Some(old) => old.mode() & 0o777,
        None => mode,
    };
    let new = file.metadata()?;
    if let Some(old) = old.filter(|old| (old.uid(), old.gid()) != (new.uid(), new.gid())) {
        fchown(file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(mode))
}

/// Takes a file away, if it is there.
pub fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(failure(path, "remove", &why)),
        _ => Ok(()),
    }
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

/// The text of a small file, or none where it is not there.
pub fn read_if_there(path: &Path) -> Result<Option<String>, Failure> {
    match path.symlink_metadata() {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => read(path).map(Some),
    }
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

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn written(dir: &Path, force: bool, fill: impl FnOnce(&mut Files)) -> Result<String, String> {
        let mut files = Files::new(dir, force);
        fill(&mut files);
        files.write().map_err(|failure| failure.parts().1.to_owned())
    }

    #[test]
    fn modes_are_as_they_were_and_private_files_stay_private() {
        let place = TempDir::new().unwrap();
        let dir = place.path().join("a/etc");
        written(&dir, false, |files| {
            files.add("public", PUBLIC, "1");
            files.add("key", PRIVATE, "1");
            files.add("sub/file", PUBLIC, "1");
        })
        .unwrap();
        let at = |name: &str| dir.join(name);
        assert_eq!([mode(&dir), mode(&at("sub"))], [0o755, 0o700]);
        assert_eq!([mode(&at("public")), mode(&at("key"))], [0o644, 0o600]);
        for (old, public, key) in [(0o640, 0o640, 0o640), (0o666, 0o666, 0o660), (0o400, 0o400, 0o400)] {
            for name in ["public", "key"] {
                fs::set_permissions(at(name), Permissions::from_mode(old)).unwrap();
            }
            written(&dir, false, |files| {
                files.replace("public", PUBLIC, "2");
                files.replace("key", PRIVATE, "2");
            })
            .unwrap();
            assert_eq!([mode(&at("public")), mode(&at("key"))], [public, key]);
            assert_eq!(fs::read(at("key")).unwrap(), b"2");
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 3, "nothing is left behind");
    }

    #[test]
    fn nothing_is_lost() {
        let place = TempDir::new().unwrap();
        let dir = place.path();
        let conf = |text: &str, force| {
            written(dir, force, |files| {
                files.add_keeping_old("conf", PUBLIC, text);
                files.add("other", PUBLIC, text);
            })
        };
        conf("1", false).unwrap();
        assert!(conf("2", false).unwrap_err().contains("conf exists; --force overwrites it"));
        assert!(!conf("1", true).unwrap().contains("kept"), "it says the same");
        assert!(conf("2", true).unwrap().starts_with("kept the old "));
        assert!(conf("3", true).unwrap().contains("conf.old.2\n"));
        let text = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(["conf", "conf.old", "conf.old.2", "other"].map(text), ["3", "1", "2", "3"]);
    }
}
