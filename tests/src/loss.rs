//! The strict model of power loss: what the shim kept is what a machine would find after the cut (`shim/loss.c`).
use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::UNIX_EPOCH,
};

/// Smaller files are copied here; larger ones have holes, which a program knows how to keep.
const SMALL_BYTES: u64 = 1 << 20;

/// The shim, and where it keeps what survives.
#[derive(Clone, Debug)]
pub struct Model {
    library: PathBuf,
    shadow: PathBuf,
}

impl Model {
    /// Compiles the shim into a directory.
    ///
    /// # Errors
    /// What the C compiler said.
    pub fn build(dir: &Path) -> io::Result<Self> {
        let library = dir.join("loss.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/loss.c");
        let output = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-w", "-o"])
            .arg(&library)
            .arg(source)
            .args(["-ldl", "-lpthread"])
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ));
        }
        Ok(Self {
            library,
            shadow: dir.join("shadow"),
        })
    }

    /// The same shim, which keeps what survives in another directory.
    #[must_use]
    pub fn keeping_in(&self, dir: &Path) -> Self {
        Self {
            library: self.library.clone(),
            shadow: dir.join("shadow"),
        }
    }

    /// The environment of a process that runs under the model, below `root`.
    #[must_use]
    pub fn environment(&self, root: &Path) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        vec![
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("LOSS_ROOT".to_owned(), text(root)),
            ("LOSS_SHADOW".to_owned(), text(&self.shadow)),
        ]
    }

    /// Takes what is below `root` now as durable: where a machine starts from.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn settle(&self, root: &Path) -> io::Result<()> {
        if self.shadow.exists() {
            fs::remove_dir_all(&self.shadow)?;
        }
        fs::create_dir_all(self.shadow.join("files"))?;
        fs::create_dir_all(self.shadow.join("dirs"))?;
        self.settle_dir(root)
    }

    fn settle_dir(&self, dir: &Path) -> io::Result<()> {
        let mut lines = String::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let id = id(&path)?;
            if path.is_dir() {
                self.settle_dir(&path)?;
                lines.push_str(&format!("d {id} {name}\n"));
            } else {
                copy(&path, &self.shadow.join("files").join(&id))?;
                lines.push_str(&format!("f {id} {name}\n"));
            }
        }
        fs::write(self.shadow.join("dirs").join(id(dir)?), lines)
    }

    /// Cuts the power: replaces what is below `root` by what survived, and settles it.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn cut(&self, root: &Path) -> io::Result<()> {
        let after = root.with_extension("after");
        self.survive(&id(root)?, &after)?;
        fs::remove_dir_all(root)?;
        fs::rename(&after, root)?;
        self.settle(root)
    }

    /// A directory that was never synced is empty; a file that was never synced is empty too.
    fn survive(&self, dir_id: &str, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        let listing = fs::read_to_string(self.shadow.join("dirs").join(dir_id)).unwrap_or_default();
        for line in listing.lines() {
            let mut parts = line.splitn(3, ' ');
            let (Some(kind), Some(id), Some(name)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if kind == "d" {
                self.survive(id, &to.join(name))?;
                continue;
            }
            let kept = self.shadow.join("files").join(id);
            if kept.exists() {
                copy(&kept, &to.join(name))?;
            } else {
                fs::write(to.join(name), [])?;
            }
        }
        Ok(())
    }
}

/// Copies a file, or a directory with all that is in it; holes stay holes, for most of a segment is one.
///
/// # Errors
/// When it cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::metadata(from)?;
    if metadata.is_file() && metadata.len() < SMALL_BYTES {
        return fs::copy(from, to).map(drop);
    }
    let output = Command::new("cp")
        .args(["-a", "--sparse=always"])
        .args([from, to])
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}

/// Inode and birth, as the shim writes them.
fn id(path: &Path) -> io::Result<String> {
    let metadata = fs::symlink_metadata(path)?;
    let born = metadata.created()?;
    let born = born.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let (seconds, nanos) = (born.as_secs(), born.subsec_nanos());
    Ok(format!("{}-{seconds}.{nanos:09}", metadata.ino()))
}
