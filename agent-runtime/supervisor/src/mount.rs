//! Mounts, made detached and then attached to a descriptor, so that no path is looked up twice.

use crate::confine::OwnProc;
use crate::error::{CallError, InCall};
use crate::resolve::{self, Missing};
use crate::sys;
use coracle_runtime_protocol::{DeviceNode, FailureKind, HostDevice, MountAttributes, Propagation};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags, fsetxattr, fstat, makedev, mknodat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::path::{Path, PathBuf};

/// The descriptors that later steps build on.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    root: Option<OwnedFd>,
    /// Root of our own procfs: kernel parameters are written through it, whatever is mounted over its path.
    proc: Option<OwnedFd>,
    /// Root of the container's /dev, which only we have written to.
    dev: Option<OwnedFd>,
    /// Our own /dev/null, verified when it was made.
    null: Option<OwnedFd>,
    /// An empty read-only file system that hides directories.
    empty: Option<OwnedFd>,
    /// Trees of the host that were taken while their mounts still propagated.
    trees: Vec<Taken>,
}

/// The tree of a source, taken while our mounts were still the host's, for a bind from which or into which mounts propagate.
#[derive(Debug)]
struct Taken {
    source: PathBuf,
    recursive: bool,
    shared: bool,
    tree: OwnedFd,
}

/// A bind mount.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bind<'a> {
    pub(crate) source: &'a Path,
    pub(crate) target: &'a str,
    pub(crate) recursive: bool,
    pub(crate) attributes: MountAttributes,
    pub(crate) optional: bool,
    pub(crate) propagation: Propagation,
    pub(crate) writable_below: bool,
    pub(crate) subpath: &'a str,
}

/// Mounts directories over each other; names in `options` are relative to `directory`.
pub(crate) fn layers(directory: &Path, options: &str, target: &Path) -> Result<(), CallError> {
    rustix::process::chdir(directory).in_call(|| format!("chdir({directory:?})"))?;
    let data = std::ffi::CString::new(options)
        .map_err(|_| CallError::refused(FailureKind::Other, "the overlay options contain a NUL byte"))?;
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("overlay", target, "overlay", flags, Some(data.as_c_str()))
        .in_call(|| format!("mount({target:?}, overlay, {options:?})"))
}

fn out_of_order(what: &str) -> CallError {
    CallError::refused(FailureKind::Other, format!("the plan uses {what} before mounting it"))
}

impl Mounts {
    /// Those of a container whose mount namespace was entered: nothing is known but the root.
    pub(crate) fn entered() -> Result<Self, CallError> {
        let root = resolve::open_root(Path::new("/")).in_call(|| "open(\"/\")".into())?;
        Ok(Self { root: Some(root), ..Self::default() })
    }

    pub(crate) fn root(&self) -> Result<BorrowedFd<'_>, CallError> {
        self.root.as_ref().map(AsFd::as_fd).ok_or_else(|| out_of_order("the root file system"))
    }

    fn dev(&self) -> Result<BorrowedFd<'_>, CallError> {
        self.dev.as_ref().map(AsFd::as_fd).ok_or_else(|| out_of_order("/dev"))
    }

    /// mount(2) rather than fsconfig(2): kernels before 6.8 have no `lowerdir+`, and a value of more than 256 bytes
    /// is refused by fsconfig on every kernel.
    pub(crate) fn overlay(
        &mut self,
        directory: &Path,
        options: &str,
        target: &Path,
    ) -> Result<(), CallError> {
        coracle_crash_point::crash_point!("init.before-overlay");
        layers(directory, options, target)?;
        coracle_crash_point::crash_point!("init.after-overlay");
        self.root = Some(resolve::open_root(target).in_call(|| format!("open({target:?})"))?);
        Ok(())
    }

    pub(crate) fn filesystem(
        &mut self,
        filesystem: &str,
        options: &[(String, Option<String>)],
        attributes: MountAttributes,
        target: &str,
        plain_directory: bool,
    ) -> Result<(), CallError> {
        let mount = make_filesystem(filesystem, options, attributes)?;
        let place = if plain_directory {
            resolve::plain_directory(self.root()?, target)?
        } else {
            self.place(target, Missing::MakeDirectory)?
        };
        attach(mount.as_fd(), place.as_fd(), target)?;
        match target {
            "/proc" => self.proc = Some(mount),
            "/dev" => self.dev = Some(mount),
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn bind(&mut self, bind: Bind<'_>) -> Result<(), CallError> {
        let Bind { source, target, recursive, .. } = bind;
        // Any other bind of the same source gets a copy of its own, which is private.
        let shared = bind.propagation == Propagation::Shared;
        let is_taken = |taken: &Taken| {
            bind.propagation != Propagation::Private
                && (&*taken.source, taken.recursive, taken.shared) == (source, recursive, shared)
        };
        let taken = self.trees.iter().position(is_taken);
        let tree = match taken.map(|taken| self.trees.swap_remove(taken).tree) {
            Some(tree) => tree,
            None if !bind.subpath.is_empty() => take_below(source, bind.subpath, recursive)?,
            None => match take_tree(source, recursive)? {
                None if bind.optional => return Ok(()),
                None => return Err(missing_source(source)),
                Some(tree) => tree,
            },
        };
        let attributes = bind.attributes;
        if bind.writable_below {
            let below = MountAttributes { read_only: false, ..attributes };
            set_attributes(tree.as_fd(), below, recursive)
                .in_call(|| format!("mount_setattr({source:?})"))?;
        }
        set_attributes(tree.as_fd(), attributes, recursive && !bind.writable_below)
            .in_call(|| format!("mount_setattr({source:?})"))?;
        set_propagation(tree.as_fd(), bind.propagation, recursive)
            .in_call(|| format!("mount_setattr({source:?}, {:?})", bind.propagation))?;
        let missing = match file_type(tree.as_fd()).in_call(|| format!("fstat({source:?})"))? {
            FileType::Directory => Missing::MakeDirectory,
            _ => Missing::MakeFile,
        };
        let place = self.place(target, missing)?;
        attach(tree.as_fd(), place.as_fd(), target)
    }

    /// Takes a tree whose mounts shall propagate. That is possible only where they do on the host.
    pub(crate) fn take(&mut self, source: &Path, recursive: bool, shared: bool) -> Result<(), CallError> {
        let tree = take_tree(source, recursive)?.ok_or_else(|| missing_source(source))?;
        let peers = peers(source)?;
        if !(peers.shared || peers.follows && !shared) {
            let wanted = if shared { "shared" } else { "shared or a slave" };
            return Err(CallError::refused(
                FailureKind::Unsupported,
                format!(
                    "the mount that holds {} on this node is not {wanted}; make it so with mount --make-rshared, or \
                     choose the propagation rprivate",
                    source.display()
                ),
            ));
        }
        self.trees.push(Taken { source: source.to_owned(), recursive, shared, tree });
        Ok(())
    }

    /// A device of the host, as it is there. One that the runtime has made already stays.
    pub(crate) fn host_device(&self, device: &HostDevice) -> Result<(), CallError> {
        let (parent, name) = resolve::split(&device.path);
        let place = self.place(parent, Missing::MakeDirectory)?;
        let kind = if device.block { FileType::BlockDevice } else { FileType::CharacterDevice };
        let number = makedev(device.major, device.minor);
        let call = || format!("mknodat({:?}, {}:{})", device.path, device.major, device.minor);
        match mknodat(&place, name, kind, Mode::from_raw_mode(device.mode), number) {
            Err(Errno::EXIST) => {
                let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                let there = rustix::fs::statat(&place, name, flags).in_call(call)?;
                if FileType::from_raw_mode(there.st_mode) == kind && there.st_rdev == number {
                    return Ok(());
                }
                let why = format!("device {}: the container has another file there", device.path);
                return Err(CallError::refused(FailureKind::RefusedRootfs, why));
            }
            result => result.in_call(call)?,
        }
        let (user, group) = (rustix::fs::Uid::from_raw(device.user), rustix::fs::Gid::from_raw(device.group));
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&place, name, Some(user), Some(group), flags)
            .in_call(|| format!("fchownat({:?})", device.path))
    }

    /// Both ends of a new terminal of the container's own devpts: the master and the slave.
    pub(crate) fn open_terminal(&self) -> Result<(OwnedFd, OwnedFd), CallError> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let master = rustix::fs::openat(self.dev()?, "pts/ptmx", flags, Mode::empty())
            .in_call(|| "openat(\"/dev/pts/ptmx\")".into())?;
        let slave = sys::unlocked_peer(master.as_fd()).in_call(|| "ioctl(TIOCGPTPEER)".into())?;
        Ok((master, slave))
    }

    /// Our own procfs, in the container's mount namespace: what is to be written there is never written somewhere else.
    pub(crate) fn own_proc(&self) -> Result<OwnProc<'_>, CallError> {
        if let Some(proc) = &self.proc {
            return Ok(OwnProc::Made(proc.as_fd()));
        }
        let entered =
            resolve::existing_plain(self.root()?, "/proc").in_call(|| "openat2(\"/proc\")".into())?;
        resolve::expect_proc(entered.as_fd())?;
        Ok(OwnProc::Entered(entered))
    }

    /// mqueue(7): its file system is there with the namespace, so that no option labels it any more.
    pub(crate) fn label_root(&self, path: &str, label: &str) -> Result<(), CallError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let resolve = rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_SYMLINKS;
        let root = resolve::open_in_root(self.root()?, path, flags, resolve)
            .in_call(|| format!("openat2({path:?})"))?;
        match fsetxattr(&root, "security.selinux", label.as_bytes(), XattrFlags::empty()) {
            // The policy gives such files no labels of their own.
            Err(Errno::OPNOTSUPP) => Ok(()),
            result => result.in_call(|| format!("fsetxattr({path:?}, security.selinux, {label:?})")),
        }
    }

    /// The target of a mount that a user asked for.
    fn place(&self, target: &str, missing: Missing) -> Result<OwnedFd, CallError> {
        let place = resolve::ensure(self.root()?, target, missing)?;
        resolve::refuse_kernel_filesystem(place.as_fd(), target)?;
        Ok(place)
    }

    pub(crate) fn device(&mut self, node: &DeviceNode) -> Result<(), CallError> {
        let dev = self.dev()?;
        let number = makedev(node.major, node.minor);
        mknodat(dev, node.name.as_str(), FileType::CharacterDevice, Mode::from_raw_mode(0o666), number)
            .in_call(|| format!("mknodat({:?}, {}:{})", node.name, node.major, node.minor))?;
        if node.name != "null" {
            return Ok(());
        }
        let null = rustix::fs::openat(
            dev,
            node.name.as_str(),
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .in_call(|| "openat(\"null\")".into())?;
        let stat = fstat(&null).in_call(|| "fstat(\"null\")".into())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != number {
            return Err(CallError::refused(FailureKind::Other, "the new /dev/null is not the null device"));
        }
        self.null = Some(null);
        Ok(())
    }

    pub(crate) fn directory(&self, path: &str) -> Result<(), CallError> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)).in_call(|| format!("mkdirat({path:?})"))
    }

    pub(crate) fn symbolic_link(&self, path: &str, target: &str) -> Result<(), CallError> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::symlinkat(target, parent, name).in_call(|| format!("symlinkat({target:?}, {path:?})"))
    }

    fn parent<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str), CallError> {
        let (parent, name) = resolve::split(path);
        let parent =
            resolve::existing_plain(self.root()?, parent).in_call(|| format!("openat2({parent:?})"))?;
        Ok((parent, name))
    }

    /// Writes below /proc/sys of our own procfs, never through a link or another mount (CVE-2025-52881).
    pub(crate) fn kernel_parameter(&self, name: &str, value: &str) -> Result<(), CallError> {
        let proc = self.proc.as_ref().ok_or_else(|| out_of_order("/proc"))?;
        let path = format!("sys/{}", name.replace('.', "/"));
        let resolve = rustix::fs::ResolveFlags::BENEATH
            | rustix::fs::ResolveFlags::NO_XDEV
            | rustix::fs::ResolveFlags::NO_SYMLINKS;
        let file = resolve::open_in_root(proc.as_fd(), &path, OFlags::WRONLY, resolve)
            .in_call(|| format!("openat2({path:?})"))?;
        rustix::io::write(&file, value.as_bytes()).in_call(|| format!("write({path:?}, {value:?})")).map(drop)
    }

    pub(crate) fn mask(&mut self, path: &str, label: Option<&str>) -> Result<(), CallError> {
        let Some(place) = self.existing(path)? else { return Ok(()) };
        if file_type(place.as_fd()).in_call(|| format!("fstat({path:?})"))? == FileType::Directory {
            return self.mask_directory(place.as_fd(), path, label);
        }
        let null = self.null.as_ref().ok_or_else(|| out_of_order("/dev/null"))?;
        let cover = clone_mount(null.as_fd(), false).in_call(|| format!("open_tree(cover of {path:?})"))?;
        attach(cover.as_fd(), place.as_fd(), path)
    }

    /// Kernels before 6.15 copy a mount only once it is attached somewhere: the first directory gets the empty file
    /// system itself, the others its copies.
    fn mask_directory(
        &mut self,
        place: BorrowedFd<'_>,
        path: &str,
        label: Option<&str>,
    ) -> Result<(), CallError> {
        if let Some(empty) = &self.empty {
            let cover =
                clone_mount(empty.as_fd(), false).in_call(|| format!("open_tree(cover of {path:?})"))?;
            return attach(cover.as_fd(), place, path);
        }
        let read_only =
            MountAttributes { read_only: true, no_set_user_id: true, no_devices: true, no_execute: true };
        let options = [("size", "0"), ("nr_inodes", "1"), ("mode", "0555")];
        let options = options.into_iter().chain(label.map(|label| ("context", label)));
        let options: Vec<_> = options.map(|(key, value)| (key.to_owned(), Some(value.to_owned()))).collect();
        let empty = make_filesystem("tmpfs", &options, read_only)?;
        attach(empty.as_fd(), place, path)?;
        self.empty = Some(empty);
        Ok(())
    }

    pub(crate) fn read_only_path(&self, path: &str) -> Result<(), CallError> {
        let Some(place) = self.existing(path)? else { return Ok(()) };
        let tree = clone_mount(place.as_fd(), true).in_call(|| format!("open_tree({path:?})"))?;
        let read_only = MountAttributes { read_only: true, ..MountAttributes::default() };
        set_attributes(tree.as_fd(), read_only, true).in_call(|| format!("mount_setattr({path:?})"))?;
        attach(tree.as_fd(), place.as_fd(), path)
    }

    fn existing(&self, path: &str) -> Result<Option<OwnedFd>, CallError> {
        match resolve::existing_plain(self.root()?, path) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            result => result.map(Some).in_call(|| format!("openat2({path:?})")),
        }
    }

    /// `/` is the root file system itself.
    pub(crate) fn seal(&self, path: &str) -> Result<(), CallError> {
        let place = resolve::existing_plain(self.root()?, path).in_call(|| format!("openat2({path:?})"))?;
        let read_only = MountAttributes { read_only: true, ..MountAttributes::default() };
        set_attributes(place.as_fd(), read_only, false).in_call(|| format!("mount_setattr({path:?})"))
    }

    /// Never chroot: a process with CAP_SYS_CHROOT leaves one. The old root ends up under the new one in the same
    /// place, and is detached from there; all its mounts are private, so the host notices nothing.
    pub(crate) fn pivot(&self) -> Result<(), CallError> {
        coracle_crash_point::crash_point!("init.before-pivot");
        let old = resolve::open_root(Path::new("/")).in_call(|| "open(\"/\")".into())?;
        rustix::process::fchdir(self.root()?).in_call(|| "fchdir(new root)".into())?;
        rustix::process::pivot_root(".", ".").in_call(|| "pivot_root(\".\", \".\")".into())?;
        rustix::process::fchdir(&old).in_call(|| "fchdir(old root)".into())?;
        rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)
            .in_call(|| "umount2(old root, MNT_DETACH)".into())?;
        coracle_crash_point::crash_point!("init.after-pivot");
        rustix::process::chdir("/").in_call(|| "chdir(\"/\")".into())
    }

    pub(crate) fn working_directory(&self, path: &str) -> Result<(), CallError> {
        let directory = resolve::ensure(self.root()?, path, Missing::MakeDirectory)?;
        resolve::refuse_kernel_filesystem(directory.as_fd(), path)?;
        rustix::process::fchdir(&directory).in_call(|| format!("fchdir({path:?})"))?;
        // The kernel marks a directory outside the root; being in one would be a way out (CVE-2024-21626).
        let here = rustix::process::getcwd(Vec::new()).in_call(|| "getcwd()".into())?;
        if here.to_bytes().starts_with(b"/") {
            Ok(())
        } else {
            Err(CallError::refused(
                FailureKind::RefusedRootfs,
                format!("{path:?} leads out of the container"),
            ))
        }
    }

    /// The container's own /dev/null, for standard input.
    pub(crate) fn open_null(&self) -> Result<OwnedFd, CallError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.dev()?, "null", flags, Mode::empty())
            .in_call(|| "openat(\"/dev/null\")".into())
    }
}

/// The null device of a container that may have changed its /dev meanwhile. Never the host's: the container could change
/// the mode of that one through the descriptor.
pub(crate) fn open_null_of_entered(root: BorrowedFd<'_>) -> Result<OwnedFd, CallError> {
    let open = |flags| {
        let flags = flags | OFlags::NOFOLLOW;
        let resolve = rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_SYMLINKS;
        let null = resolve::open_in_root(root, "/dev/null", flags, resolve)
            .in_call(|| "openat2(\"/dev/null\")".into())?;
        let stat = fstat(&null).in_call(|| "fstat(\"/dev/null\")".into())?;
        let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        if is_device && stat.st_rdev == makedev(1, 3) {
            return Ok(null);
        }
        let why = "/dev/null of the container is not the null device any more";
        Err(CallError::refused(FailureKind::Other, why))
    };
    // Looked at before it is opened, which may have an effect, and again, because it may have been replaced.
    open(OFlags::PATH)?;
    open(OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK)
}

/// `None` if there is no such path.
fn take_tree(source: &Path, recursive: bool) -> Result<Option<OwnedFd>, CallError> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    match open_tree(CWD, source, flags) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        result => result.map(Some).in_call(|| format!("open_tree({source:?})")),
    }
}

/// A part of a tree whose content others may have made: no link in it leads out.
fn take_below(source: &Path, subpath: &str, recursive: bool) -> Result<OwnedFd, CallError> {
    let root = match resolve::open_root(source) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing_source(source)),
        result => result.in_call(|| format!("open({source:?})"))?,
    };
    let resolve = rustix::fs::ResolveFlags::IN_ROOT;
    let place = match resolve::open_in_root(root.as_fd(), subpath, OFlags::PATH, resolve) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
            let why = format!(
                "subpath {subpath:?} does not exist in what is mounted; links in it do not lead out of it"
            );
            return Err(CallError::refused(FailureKind::MissingBindSource, why));
        }
        result => result.in_call(|| format!("openat2({source:?}, {subpath:?})"))?,
    };
    clone_mount(place.as_fd(), recursive).in_call(|| format!("open_tree({source:?}, {subpath:?})"))
}

fn missing_source(source: &Path) -> CallError {
    let why = format!("bind source path {} does not exist on this node", source.display());
    CallError::refused(FailureKind::MissingBindSource, why)
}

/// How the mount that holds a path propagates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Peers {
    shared: bool,
    /// It is a slave of another.
    follows: bool,
}

fn peers(path: &Path) -> Result<Peers, CallError> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let place = rustix::fs::open(path, flags, Mode::empty()).in_call(|| format!("open({path:?})"))?;
    let stat = rustix::fs::statx(&place, "", rustix::fs::AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::MNT_ID)
        .in_call(|| format!("statx({path:?})"))?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").in_call(|| "read(mountinfo)".into())?;
    Ok(find_peers(&mounts, stat.stx_mnt_id))
}

/// proc_pid_mountinfo(5): the optional fields follow the sixth.
fn find_peers(mounts: &str, id: u64) -> Peers {
    let id = id.to_string();
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(id.as_str())).unwrap_or_default();
    let fields = || line.split(' ').skip(6).take_while(|field| *field != "-");
    Peers {
        shared: fields().any(|field| field.starts_with("shared:")),
        follows: fields().any(|field| field.starts_with("master:")),
    }
}

fn set_propagation(
    mount: BorrowedFd<'_>,
    propagation: Propagation,
    recursive: bool,
) -> rustix::io::Result<()> {
    match propagation {
        // All mounts of our namespace are private by now, and so are copies of them.
        Propagation::Private => Ok(()),
        Propagation::Slave => sys::set_propagation(mount, libc::MS_SLAVE, recursive),
        Propagation::Shared => sys::set_propagation(mount, libc::MS_SHARED, recursive),
    }
}

fn make_filesystem(
    filesystem: &str,
    options: &[(String, Option<String>)],
    attributes: MountAttributes,
) -> Result<OwnedFd, CallError> {
    let context =
        fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC).in_call(|| format!("fsopen({filesystem:?})"))?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), key.as_str(), value.as_str()),
            None => fsconfig_set_flag(context.as_fd(), key.as_str()),
        }
        .in_call(|| format!("fsconfig({filesystem:?}, {key:?}, {value:?})"))?;
    }
    fsconfig_create(context.as_fd()).in_call(|| format!("fsconfig({filesystem:?}, FSCONFIG_CMD_CREATE)"))?;
    let flags = MountAttrFlags::from_bits_retain(bits(attributes));
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags)
        .in_call(|| format!("fsmount({filesystem:?})"))
}

/// Kernel constants of linux/mount.h, `MOUNT_ATTR_*`.
fn bits(attributes: MountAttributes) -> u32 {
    (u32::from(attributes.read_only))
        | (u32::from(attributes.no_set_user_id) << 1)
        | (u32::from(attributes.no_devices) << 2)
        | (u32::from(attributes.no_execute) << 3)
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: MountAttributes,
    recursive: bool,
) -> rustix::io::Result<()> {
    match bits(attributes) {
        0 => Ok(()),
        bits => sys::set_mount_attributes(mount, u64::from(bits), recursive),
    }
}

fn clone_mount(place: BorrowedFd<'_>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(place, "", flags)
}

fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>, path: &str) -> Result<(), CallError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", place, "", flags).in_call(|| format!("move_mount({path:?})"))
}

fn file_type(file: BorrowedFd<'_>) -> rustix::io::Result<FileType> {
    fstat(file).map(|stat| FileType::from_raw_mode(stat.st_mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn propagation_is_read_from_the_line_of_the_mount() {
        let mounts = "21 1 0:20 / /proc rw shared:5 master:7 - proc proc rw\n22 1 0:21 / /sys rw - sysfs shared:1 rw\n\
            210 1 0:22 / /x rw master:3 - tmpfs t rw\n";
        assert_eq!(find_peers(mounts, 21), Peers { shared: true, follows: true });
        assert_eq!(find_peers(mounts, 22), Peers::default());
        assert_eq!(find_peers(mounts, 210), Peers { shared: false, follows: true });
        assert_eq!(find_peers(mounts, 2), Peers::default());
    }
}
