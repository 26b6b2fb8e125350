//! Events: points of a stream's work.

use std::ffi::c_uint;
use std::ptr::without_provenance_mut;
use std::time::Instant;

use cudarc::driver::sys::{
    CUevent, CUevent_flags, CUresult,
    CUresult::{CUDA_ERROR_CAPTURED_EVENT, CUDA_ERROR_INVALID_HANDLE},
    CUstream,
};

use super::capture::Joined;
use super::order::Clock;
use super::{Answer, Driver, Out, call_bound, put};

/// What an event recorded.
#[derive(Clone, Debug)]
pub enum Record {
    /// A stream's work.
    Done {
        /// Which.
        clock: Clock,
        /// When, by the host's clock: work runs at once.
        at: Instant,
    },
    /// A point of a capture.
    Captured(Joined),
}

/// An event.
pub struct Event {
    timing: bool,
    /// The last record, if any.
    pub record: Option<Record>,
}

impl Driver {
    /// What a recorded event knows; nothing before its first record.
    fn recorded(&mut self, event: CUevent) -> Answer<Option<Clock>> {
        match self.events.get(event.addr())?.record.clone() {
            None => Ok(None),
            Some(Record::Done { clock, .. }) => Ok(Some(clock)),
            Some(Record::Captured(joined)) => {
                self.invalidate(joined.capture);
                Err(CUDA_ERROR_CAPTURED_EVENT)
            }
        }
    }

    fn elapsed(&self, start: CUevent, end: CUevent) -> Answer<f32> {
        let at = |event: CUevent| match self.events.get(event.addr())? {
            Event { timing: true, record: Some(Record::Done { at, .. }) } => Ok(*at),
            _ => Err(CUDA_ERROR_INVALID_HANDLE),
        };
        let (start, end) = (at(start)?, at(end)?);
        let forward = end.saturating_duration_since(start).as_secs_f32();
        Ok(1e3 * (forward - start.saturating_duration_since(end).as_secs_f32()))
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventCreate(out: Out<'_, CUevent>, flags: c_uint) -> CUresult {
    call_bound("cuEventCreate", |driver| {
        let timing = flags & CUevent_flags::CU_EVENT_DISABLE_TIMING as c_uint == 0;
        put(out, without_provenance_mut(driver.events.insert(Event { timing, record: None })))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(event: CUevent) -> CUresult {
    call_bound("cuEventDestroy", |driver| driver.events.remove(event.addr()).map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: CUevent, stream: CUstream) -> CUresult {
    call_bound("cuEventRecord", |driver| {
        let stream = driver.stream(stream)?;
        let record = match driver.joined(stream)? {
            Some(joined) => Record::Captured(joined),
            None => {
                driver.legacy_allowed(stream)?;
                Record::Done { clock: driver.streams.enter(stream)?.clock.clone(), at: Instant::now() }
            }
        };
        driver.events.get_mut(event.addr())?.record = Some(record);
        Ok(())
    })
}

/// Work is done when its call returns, so the answer is always yes, and then the host knows.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(event: CUevent) -> CUresult {
    call_bound("cuEventQuery", |driver| {
        let clock = driver.recorded(event)?;
        driver.allowed_in_capture("cuEventQuery", None)?;
        clock.iter().for_each(|clock| driver.streams.host.join(clock));
        Ok(())
    })
}

/// Blocks unless the host already knows that the event is done.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(event: CUevent) -> CUresult {
    call_bound("cuEventSynchronize", |driver| {
        let Some(clock) = driver.recorded(event)? else { return Ok(()) };
        if driver.streams.host.covers(&clock) {
            return driver.allowed_in_capture("cuEventSynchronize", None);
        }
        driver.host_waits("cuEventSynchronize", None)?;
        driver.streams.host.join(&clock);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime_v2(out: Out<'_, f32>, start: CUevent, end: CUevent) -> CUresult {
    call_bound("cuEventElapsedTime", |driver| put(out, driver.elapsed(start, end)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime(out: Out<'_, f32>, start: CUevent, end: CUevent) -> CUresult {
    call_bound("cuEventElapsedTime", |driver| put(out, driver.elapsed(start, end)?))
}
