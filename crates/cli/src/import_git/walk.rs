//! Reads commits and their files, parents first, while git works: three pipes, and no commit waits for another.
//!
//! `git cat-file` gives the objects as they are stored; a thread parses them and asks `git diff-tree` to compare each
//! with the parent that the object itself names. diff-tree's input holds some 800 lines, which bounds how many parsed
//! commits wait here.
use std::{
    io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _},
    process::{ChildStdin, ChildStdout},
    sync::mpsc,
    thread,
};

use super::{
    command::{Error, Git, Process},
    graph::Graph,
    numstat::{self, Cut, Numstat},
    object::{self, Commit, ObjectId},
};

/// Git's own default, fixed so that a person's setting does not change which files count as renamed.
const DIFF_TREE: [&str; 15] = [
    "diff-tree",
    "--stdin",
    "--always",
    "--root",
    "-r",
    "-z",
    "--numstat",
    "--find-renames=50%",
    "-l1000",
    "--diff-algorithm=myers",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-relative",
    "--ignore-submodules=none",
];
const CAT_FILE: [&str; 3] = ["cat-file", "--batch", "--buffer"];

/// The files of the commit at hand.
pub(super) type Files = Numstat<BufReader<ChildStdout>>;

/// What is wanted of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Its object only.
    Object,
    /// Its object and its files.
    Files,
}

/// One commit as it comes.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) number: u32,
    pub(super) id: ObjectId,
    pub(super) commit: Commit,
    /// Its parents exist but are not here, and so its files are not known.
    pub(super) boundary: bool,
    pub(super) wanted: Want,
}

impl Seen {
    /// Whether its files come with it.
    fn has_files(&self) -> bool {
        self.wanted == Want::Files && !self.boundary
    }
}

/// Why the walk stopped early.
enum Stop<X> {
    /// One of the two processes ended too soon.
    Objects,
    Files,
    /// Whoever is visited wants no more.
    Visitor(X),
}

/// Visits every commit of `graph`, parents first; `wants` is indexed by number.
///
/// # Errors
/// What the visitor returns, or what went wrong with git.
pub(super) fn commits<X: From<Error>>(
    git: &Git,
    graph: &Graph,
    wants: &[Want],
    visit: &mut dyn FnMut(Seen, &mut Files) -> Result<(), X>,
) -> Result<(), X> {
    let mut objects = git.start(&CAT_FILE)?;
    let mut files = git.start(&DIFF_TREE)?;
    let (Some(ask_objects), Some(read_objects)) = (objects.stdin.take(), objects.stdout.take())
    else {
        return Ok(());
    };
    let (Some(ask_files), Some(read_files)) = (files.stdin.take(), files.stdout.take()) else {
        return Ok(());
    };
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || ask(graph, ask_objects));
        let parser = scope.spawn(move || parse(graph, wants, read_objects, ask_files, &sender));
        let visited = visit_all(
            graph.len(),
            receiver,
            Numstat::new(BufReader::new(read_files)),
            visit,
        );
        let result = visited.map_err(|stop| ended(stop, &mut objects, &mut files));
        if result.is_err() {
            // Both threads see their pipes close and end before this scope does.
            objects.stop();
            files.stop();
        }
        match (result, parser.join()) {
            (Err(Some(error)), _) => Err(error),
            (Err(None), Ok(Err(error))) => Err(error.into()),
            (Err(None), _) => Err(unexpected("the output ended too soon").into()),
            (Ok(()), _) => Ok(()),
        }
    })?;
    objects.finish()?;
    Ok(files.finish()?)
}

/// Why it stopped, in the words of the process that did. None where the parser knows better.
fn ended<X: From<Error>>(stop: Stop<X>, objects: &mut Process, files: &mut Process) -> Option<X> {
    let ended = match stop {
        Stop::Visitor(error) => return Some(error),
        Stop::Objects => objects.wait(),
        Stop::Files => files.wait(),
    };
    ended.err().map(X::from)
}

fn unexpected(said: &str) -> Error {
    Error::Unexpected {
        command: "cat-file",
        said: said.to_owned(),
    }
}

/// Names all commits to cat-file. If it stops listening, its reader finds out why.
fn ask(graph: &Graph, stdin: ChildStdin) {
    let mut stdin = BufWriter::new(stdin);
    for number in graph.numbers() {
        if writeln!(stdin, "{}", graph.id(number)).is_err() {
            return;
        }
    }
    let _ = stdin.flush();
}

/// Reads objects, asks for the files of those whose files are wanted, and passes both on.
fn parse(
    graph: &Graph,
    wants: &[Want],
    stdout: ChildStdout,
    mut ask_files: ChildStdin,
    sender: &mpsc::Sender<Seen>,
) -> Result<(), Error> {
    let pipe = |error: io::Error| Error::Pipe {
        command: CAT_FILE[0].to_owned(),
        error,
    };
    let mut stdout = BufReader::new(stdout);
    let (mut head, mut body) = (Vec::new(), Vec::new());
    for number in graph.numbers() {
        head.clear();
        stdout.read_until(b'\n', &mut head).map_err(pipe)?;
        if head.is_empty() {
            return Ok(());
        }
        let (id, size) = object::batch_head(&head)?;
        // The object, and the newline that follows it.
        body.resize(size + 1, 0);
        stdout.read_exact(&mut body).map_err(pipe)?;
        let seen = see(graph, number, id, &body[..size], wants[number as usize]);
        // Whole lines, unbuffered: diff-tree must never wait for what we hold back.
        if seen.has_files() && ask_files.write_all(question(&seen).as_bytes()).is_err() {
            return Ok(());
        }
        if sender.send(seen).is_err() {
            return Ok(());
        }
    }
    // If nobody listens any more, the reader finds out why.
    let _ = ask_files.write_all(numstat::END);
    Ok(())
}

fn see(graph: &Graph, number: u32, id: ObjectId, object: &[u8], want: Want) -> Seen {
    let commit = Commit::parse(object);
    let known = graph.parents(number).iter().map(|parent| graph.id(*parent));
    let boundary = !known.eq(commit.parents.iter().copied());
    Seen {
        number,
        id,
        commit,
        boundary,
        wanted: want,
    }
}

/// A line that makes diff-tree compare a commit with its first parent, or a root with nothing.
fn question(seen: &Seen) -> String {
    match seen.commit.parents.first() {
        Some(parent) => format!("{} {parent}\n", seen.id),
        None => format!("{}\n", seen.id),
    }
}

fn visit_all<X>(
    commits: usize,
    receiver: mpsc::Receiver<Seen>,
    mut files: Files,
    visit: &mut dyn FnMut(Seen, &mut Files) -> Result<(), X>,
) -> Result<(), Stop<X>>
where
    X: From<Error>,
{
    for _ in 0..commits {
        let seen = receiver.recv().map_err(|_| Stop::Objects)?;
        if seen.has_files() {
            files.begin(seen.id).map_err(|Cut| Stop::Files)?;
        }
        let result = visit(seen, &mut files);
        if files.is_cut() {
            return Err(Stop::Files);
        }
        result.map_err(Stop::Visitor)?;
    }
    files.end().map_err(|Cut| Stop::Files)
}
