//! What a live screen asks again and again of whatever is in place: a monitor, or the enforcement.
//! A look reads the maps; a walk over everybody's descriptors is asked for by itself, since it
//! costs more and holds each open file for a moment.

use super::{
    Error, Snapshot, enforcement, idle, of_directory, of_monitor, pinned, read, snapshot::Holder,
    snapshot::Source,
};

/// Whose maps there are to read; `None`: nobody's.
pub fn in_place() -> Result<Option<Source>, Error> {
    pinned::source()
}

/// What the maps in place say now, without holders; `None`: there are no maps.
pub fn look() -> Result<Option<Snapshot>, Error> {
    let Some(source) = pinned::source()? else {
        return Ok(None);
    };
    read(&of_monitor()?, idle::Files::now, Vec::new(), Some(source)).map(Some)
}

/// Tells the maps in place from any that come after them.
pub fn maps() -> Option<u64> {
    pinned::inode()
}

/// Everybody who refers to a leased file or to another one with a stake.
pub fn holders() -> Result<Vec<Holder>, Error> {
    pinned::walker()?.all()
}

/// Rules of the policy in place; 0 where there is none.
pub fn rules() -> Result<u32, Error> {
    Ok(enforcement::from(of_directory)?.header()?.rules())
}
