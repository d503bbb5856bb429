/* A strict model of power loss, loaded with LD_PRELOAD.
 *
 * Under LOSS_ROOT only what was synced survives: the bytes of a file as they were at its last fsync or fdatasync, and the
 * names in a directory as they were at that directory's last fsync. A rename, too, survives only with its directory.
 * What survives is kept under LOSS_SHADOW: files/<inode>-<birth> and dirs/<inode>-<birth> (lines of "kind id name").
 * After a kill, the test builds a directory from the shadow and starts again from there.
 *
 * LOSS_SKIP=<rules>   pretends that syncs succeeded which did nothing: a mutant that a test must catch.
 * LOSS_EIO=<rules>    makes syncs fail with EIO, and keeps nothing of them.
 *
 * Rules are separated by commas. <word> is any sync of a path that holds the word; =<name> of one whose last part is the name,
 * so of a directory and not of what is in it; ^<name> of one whose last part begins so. Each may end in :<n>, for the n-th
 * such sync of the process alone.
 * sync_file_range keeps nothing: it is no sync.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct range { off_t from, to; struct range *next; };
struct file { char id[64]; struct range *dirty; struct file *next; };
/* left: syncs until the one that is meant; -1 for all of them. */
struct rule { char kind; const char *word; long left; struct rule *next; };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct file *files;
static struct rule *skips, *failures;
static const char *root, *shadow;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static struct rule *rules_of(const char *name) {
    struct rule *rules = NULL;
    char *text = getenv(name), *rest = text ? strdup(text) : NULL;
    for (char *word; (word = strsep(&rest, ","));) {
        if (!*word) continue;
        char *colon = strrchr(word, ':');
        struct rule *r = malloc(sizeof *r);
        int named = *word == '=' || *word == '^';
        *r = (struct rule){named ? *word : 0, word + named, colon ? atol(colon + 1) : -1, rules};
        if (colon) *colon = 0;
        rules = r;
    }
    return rules;
}

/* Whether a sync of a path is one that a rule means. Counts it for every rule. */
static int meant(struct rule *rules, const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    int found = 0;
    for (struct rule *r = rules; r; r = r->next) {
        int matches = r->kind == '=' ? !strcmp(name, r->word)
                    : r->kind == '^' ? !strncmp(name, r->word, strlen(r->word))
                    : strstr(path, r->word) != NULL;
        if (matches && (r->left < 0 || (r->left > 0 && --r->left == 0))) found = 1;
    }
    return found;
}

__attribute__((constructor)) static void start(void) {
    root = getenv("LOSS_ROOT");
    shadow = getenv("LOSS_SHADOW");
    skips = rules_of("LOSS_SKIP");
    failures = rules_of("LOSS_EIO");
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return root && shadow && strncmp(path, root, strlen(root)) == 0;
}

/* Inode numbers are reused at once; with the time of birth they are not. */
static int id_of(int fd, const char *path, char *id) {
    struct statx st;
    int flags = fd >= 0 ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;
    if (statx(fd >= 0 ? fd : AT_FDCWD, fd >= 0 ? "" : path, flags, STATX_INO | STATX_BTIME, &st)) return 0;
    snprintf(id, 64, "%llu-%lld.%09u", (unsigned long long)st.stx_ino, (long long)st.stx_btime.tv_sec, st.stx_btime.tv_nsec);
    return 1;
}

static struct file *file_of(const char *id) {
    for (struct file *f = files; f; f = f->next)
        if (!strcmp(f->id, id)) return f;
    struct file *f = calloc(1, sizeof *f);
    strcpy(f->id, id);
    f->next = files;
    return files = f;
}

static void note(int fd, off_t from, ssize_t n) {
    char path[PATH_MAX], id[64];
    if (n <= 0 || !path_of(fd, path) || !id_of(fd, NULL, id)) return;
    pthread_mutex_lock(&mutex);
    struct file *f = file_of(id);
    if (f->dirty && f->dirty->to == from) {
        f->dirty->to = from + n;
    } else {
        struct range *r = malloc(sizeof *r);
        *r = (struct range){from, from + n, f->dirty};
        f->dirty = r;
    }
    pthread_mutex_unlock(&mutex);
}

static void keep_file(int fd, const char *id) {
    char to[PATH_MAX], from[64], buffer[65536];
    snprintf(to, sizeof to, "%s/files/%s", shadow, id);
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    int in = REAL(open)(from, O_RDONLY), out = REAL(open)(to, O_WRONLY | O_CREAT, 0600);
    struct stat st;
    if (in < 0 || out < 0 || fstat(in, &st)) abort();
    struct file *f = file_of(id);
    for (struct range *r = f->dirty, *next; r; r = next) {
        for (off_t at = r->from; at < r->to;) {
            size_t want = (size_t)(r->to - at) < sizeof buffer ? (size_t)(r->to - at) : sizeof buffer;
            ssize_t n = pread(in, buffer, want, at);
            if (n <= 0) break;
            if (REAL(pwrite)(out, buffer, (size_t)n, at) != n) abort();
            at += n;
        }
        next = r->next;
        free(r);
    }
    f->dirty = NULL;
    if (REAL(ftruncate)(out, st.st_size)) abort();
    close(in);
    close(out);
}

static void keep_dir(const char *path, const char *id) {
    char to[PATH_MAX], temp[PATH_MAX + 8], child[2 * PATH_MAX], child_id[64];
    snprintf(to, sizeof to, "%s/dirs/%s", shadow, id);
    snprintf(temp, sizeof temp, "%s.new", to);
    FILE *out = fopen(temp, "w");
    DIR *dir = opendir(path);
    if (!out || !dir) abort();
    for (struct dirent *e; (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        if (id_of(-1, child, child_id)) fprintf(out, "%c %s %s\n", e->d_type == DT_DIR ? 'd' : 'f', child_id, e->d_name);
    }
    closedir(dir);
    if (fclose(out) || REAL(rename)(temp, to)) abort();
}

/* 1 when the model has done what was wanted, 0 when the path is not its business, -1 for an error. */
static int keep(int fd) {
    char path[PATH_MAX], id[64];
    struct stat st;
    if (!path_of(fd, path)) return 0;
    pthread_mutex_lock(&mutex);
    int fails = meant(failures, path), skips_it = meant(skips, path), done = 1;
    if (fails) {
        errno = EIO;
        done = -1;
    } else if (!skips_it) {
        if (fstat(fd, &st) || !id_of(fd, NULL, id)) done = 0;
        else if (S_ISDIR(st.st_mode)) keep_dir(path, id);
        else keep_file(fd, id);
    }
    pthread_mutex_unlock(&mutex);
    return done;
}

/* The model keeps what survives itself, so that the real, slow sync is not needed. */
int fsync(int fd) {
    int kept = keep(fd);
    return kept ? (kept < 0 ? -1 : 0) : REAL(fsync)(fd);
}

int fdatasync(int fd) {
    int kept = keep(fd);
    return kept ? (kept < 0 ? -1 : 0) : REAL(fdatasync)(fd);
}

int sync_file_range(int fd, off64_t offset, off64_t n, unsigned flags) {
    (void)fd, (void)offset, (void)n, (void)flags;
    return 0;
}

ssize_t write(int fd, const void *bytes, size_t n) {
    off_t before = lseek(fd, 0, SEEK_CUR);
    ssize_t done = REAL(write)(fd, bytes, n);
    /* After an append the position is behind what was written, wherever it began. */
    if (before >= 0 && done > 0) note(fd, lseek(fd, 0, SEEK_CUR) - done, done);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    off_t before = lseek(fd, 0, SEEK_CUR);
    ssize_t done = REAL(writev)(fd, parts, count);
    if (before >= 0 && done > 0) note(fd, lseek(fd, 0, SEEK_CUR) - done, done);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) {
    ssize_t done = REAL(pwrite)(fd, bytes, n, at);
    note(fd, at, done);
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) {
    ssize_t done = REAL(pwrite64)(fd, bytes, n, at);
    note(fd, at, done);
    return done;
}
