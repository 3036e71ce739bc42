//! The start of the program. The standard library's own reads the process's memory map, to tell a
//! stack overflow from other faults, and sets signal handlers up, which husk would undo: 3 % of the
//! time that a container takes to start, and 60 KiB.

use libc::{c_char, c_int};

/// As the C library calls it, with strings that std::env::args has, too.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _words: *const *const c_char) -> c_int {
    open_missing();
    crate::main().into()
}

/// Where 0, 1 or 2 is closed, what is opened next would get that number: /dev/null takes it.
fn open_missing() {
    for number in 0..3 {
        // SAFETY: integers only.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } != -1 {
            continue;
        }
        // SAFETY: the string is a constant. The lowest number that is free is taken, and this is
        // it.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
    }
}
