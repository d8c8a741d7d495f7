//! A file system that does not answer, like a network file system without a server.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

pub struct Dead {
    pub place: PathBuf,
    /// Whoever holds it is to answer.
    requests: fs::File,
}

impl Dead {
    /// Who asks it waits until killed. `None`, with a printed reason, where there is nothing to make it of.
    pub fn mount(place: PathBuf) -> Option<Self> {
        let Ok(requests) = fs::File::options().read(true).write(true).open("/dev/fuse") else {
            println!("SKIPPED: there is no /dev/fuse, of which a file system that does not answer is made");
            return None;
        };
        fs::create_dir(&place).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", requests.as_raw_fd());
        let options = CString::new(options).unwrap();
        mount("dead", &place, "fuse", MountFlags::empty(), options.as_c_str()).unwrap();
        Some(Self { place, requests })
    }

    /// Answers the greeting, so that questions are sent (linux/fuse.h, FUSE_INIT).
    pub fn greet(&self) {
        let greeting = self.take();
        let mut answer = Vec::new();
        answer.extend(80_u32.to_ne_bytes());
        answer.extend(0_i32.to_ne_bytes());
        answer.extend(&greeting[8..16]);
        for word in [7_u32, 31] {
            answer.extend(word.to_ne_bytes());
        }
        answer.resize(80, 0);
        (&self.requests).write_all(&answer).unwrap();
    }

    /// Takes one question. Who asked it waits from then on and cannot be killed.
    pub fn take(&self) -> Vec<u8> {
        let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
        let asked = poll(&mut [PollFd::new(&self.requests, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(asked, 1, "nobody asks {}", self.place.display());
        let mut question = vec![0; 1 << 20];
        let length = (&self.requests).read(&mut question).unwrap();
        question.truncate(length);
        question
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        let _ = unmount(&self.place, UnmountFlags::DETACH);
    }
}
