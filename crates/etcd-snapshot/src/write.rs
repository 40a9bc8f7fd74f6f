//! An etcd database from records in the order of their revisions.
//!
//! Holds the facts that come after the keys, and one portion. Knows no destination, but for `save`.

use std::io;

use sha2::{Digest, Sha256};

use crate::{
    Facts, Record, WriteError,
    pairs::{self, AFTER, BEFORE, KEY, Pairs},
};

/// Where everything will be in a file, found out by a [`Measure`].
pub type Plan = bolt::Plan;

/// Sees to it that revisions ascend.
#[derive(Debug, Default)]
struct Order(Option<(i64, i64)>);

impl Order {
    fn check(&mut self, record: &Record<'_>) -> Result<(), WriteError> {
        let (revision, sub) = (record.revision, record.sub);
        if revision < 0 || sub < 0 {
            return Err(WriteError::Negative { revision, sub });
        }
        if self.0 >= Some((revision, sub)) {
            return Err(WriteError::Order { revision, sub });
        }
        self.0 = Some((revision, sub));
        Ok(())
    }
}

/// The first pass: finds out how large the file gets, and where in it what will be.
#[derive(Debug)]
pub struct Measure {
    inner: bolt::Measure,
    after: Vec<(&'static str, Pairs)>,
    order: Order,
    key: Vec<u8>,
}

impl Measure {
    pub fn new(facts: &Facts) -> Result<Self, WriteError> {
        let mut inner = bolt::Measure::new();
        for name in BEFORE {
            measure(&mut inner, name, &pairs::encode(facts, name))?;
        }
        inner.begin(KEY.as_bytes())?;
        let after = AFTER.into_iter().map(|name| (name, pairs::encode(facts, name))).collect();
        Ok(Measure { inner, after, order: Order::default(), key: Vec::new() })
    }

    /// Counts a record. Only the length of its value matters.
    pub fn record(&mut self, record: &Record<'_>) -> Result<(), WriteError> {
        self.order.check(record)?;
        self.key.clear();
        record.encode_key(&mut self.key);
        Ok(self.inner.put(&self.key, record.value_len())?)
    }

    pub fn finish(mut self) -> Result<Plan, WriteError> {
        self.inner.end()?;
        for (name, pairs) in &self.after {
            measure(&mut self.inner, name, pairs)?;
        }
        Ok(self.inner.finish()?)
    }
}

fn measure(inner: &mut bolt::Measure, name: &str, pairs: &Pairs) -> Result<(), WriteError> {
    inner.begin(name.as_bytes())?;
    pairs.iter().try_for_each(|(key, value)| inner.put(key, value.len()))?;
    Ok(inner.end()?)
}

/// The second pass: the file, portion by portion.
///
/// It is given the facts and records that the [`Measure`] was given. Its portions, taken in between and at the end, are
/// [`Plan::size`] bytes together; the hash is not among them.
#[derive(Debug)]
pub struct Writer {
    inner: bolt::Writer,
    after: Vec<(&'static str, Pairs)>,
    order: Order,
    key: Vec<u8>,
    value: Vec<u8>,
    hash: Sha256,
}

/// The end of a file.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The last bytes of the database.
    pub portion: Vec<u8>,
    /// The SHA-256 of the whole database, which a server sends behind it.
    pub hash: [u8; 32],
}

impl Writer {
    pub fn new(facts: &Facts, plan: Plan) -> Result<Self, WriteError> {
        let mut inner = bolt::Writer::new(plan);
        for name in BEFORE {
            write(&mut inner, name, &pairs::encode(facts, name))?;
        }
        inner.begin(KEY.as_bytes())?;
        let after = AFTER.into_iter().map(|name| (name, pairs::encode(facts, name))).collect();
        let (key, value, hash) = (Vec::new(), Vec::new(), Sha256::new());
        Ok(Writer { inner, after, order: Order::default(), key, value, hash })
    }

    pub fn record(&mut self, record: &Record<'_>) -> Result<(), WriteError> {
        self.order.check(record)?;
        self.key.clear();
        self.value.clear();
        record.encode_key(&mut self.key);
        record.encode_value(&mut self.value);
        Ok(self.inner.put(&self.key, &self.value)?)
    }

    /// The next bytes of the file, once there are many. What is not taken stays in memory.
    pub fn portion(&mut self) -> Option<Vec<u8>> {
        let portion = self.inner.portion()?;
        self.hash.update(&portion);
        Some(portion)
    }

    /// Ends the file. An error means that the portions before are no database.
    pub fn finish(mut self) -> Result<Finished, WriteError> {
        self.inner.end()?;
        for (name, pairs) in &self.after {
            write(&mut self.inner, name, pairs)?;
        }
        let portion = self.inner.finish()?;
        self.hash.update(&portion);
        Ok(Finished { portion, hash: self.hash.finalize().into() })
    }
}

fn write(inner: &mut bolt::Writer, name: &str, pairs: &Pairs) -> Result<(), WriteError> {
    inner.begin(name.as_bytes())?;
    pairs.iter().try_for_each(|(key, value)| inner.put(key, value))?;
    Ok(inner.end()?)
}

/// What [`save`] has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Bytes of the database, without the hash.
    pub size: u64,
    pub hash: [u8; 32],
}

/// Writes a whole snapshot file with its hash, as `etcdctl snapshot save` leaves it. `records` is asked twice for the
/// same records.
pub fn save<'a, R>(facts: &Facts, records: impl Fn() -> R, out: &mut impl io::Write) -> Result<Saved, WriteError>
where
    R: IntoIterator<Item = Record<'a>>,
{
    let mut measure = Measure::new(facts)?;
    records().into_iter().try_for_each(|record| measure.record(&record))?;
    let plan = measure.finish()?;
    let mut writer = Writer::new(facts, plan)?;
    for record in records() {
        writer.record(&record)?;
        if let Some(portion) = writer.portion() {
            out.write_all(&portion).map_err(WriteError::Sink)?;
        }
    }
    let Finished { portion, hash } = writer.finish()?;
    out.write_all(&portion).and_then(|()| out.write_all(&hash)).and_then(|()| out.flush()).map_err(WriteError::Sink)?;
    Ok(Saved { size: plan.size(), hash })
}
