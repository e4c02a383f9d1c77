//! A query becomes a reply, as far as the zone knows. Pure: bytes in, a message or the need to ask others out.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::zone::{Answer, Data, Kind, Zone};

/// How long clients may keep an answer, in seconds: endpoints come and go.
const TTL: u32 = 5;
/// The largest datagram that no path fragments.
pub(super) const MAX_DATAGRAM: u16 = 1232;
/// What a client takes that does not say.
const CLASSIC_DATAGRAM: u16 = 512;
/// The length of a message's header.
const HEADER: usize = 12;

/// What is to be done with a query.
#[derive(Debug)]
pub(super) enum Reply {
    Ready(Box<Message>),
    /// The name is not the zone's.
    Forward(Box<Message>),
    /// The name stands for one outside: its records must be added to this.
    Complete(Box<Message>, Name),
    /// Not a query at all.
    Silence,
}

/// Answers the query in `bytes` from `zone`; without one, not all names are known yet.
pub(super) fn reply(bytes: &[u8], zone: Option<&Zone>) -> Reply {
    let Ok(query) = Message::from_vec(bytes) else { return malformed(bytes) };
    if query.metadata.message_type != MessageType::Query {
        return Reply::Silence;
    }
    if query.metadata.op_code != OpCode::Query {
        return refuse(&query, ResponseCode::NotImp);
    }
    if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(&query, ResponseCode::BADVERS);
    }
    let [question] = query.queries.as_slice() else { return refuse(&query, ResponseCode::FormErr) };
    match (question.query_class(), question.query_type()) {
        (DNSClass::IN, RecordType::AXFR | RecordType::IXFR) => return refuse(&query, ResponseCode::Refused),
        (DNSClass::IN, RecordType::ANY) => return refuse(&query, ResponseCode::NotImp),
        (DNSClass::IN, _) => {}
        _ => return refuse(&query, ResponseCode::Refused),
    }
    let Some(zone) = zone else { return refuse(&query, ResponseCode::ServFail) };
    let name = question.name().to_lowercase().to_ascii();
    match lookup(zone, &name, kind(question.query_type())) {
        Answer::Elsewhere => Reply::Forward(Box::new(query)),
        Answer::NoSuchName => {
            let mut reply = begin(&query);
            reply.metadata.response_code = ResponseCode::NXDomain;
            add_authority(&mut reply, zone);
            Reply::Ready(Box::new(reply))
        }
        Answer::Found(records) => Reply::Ready(Box::new(found(&query, question, zone, &records))),
        Answer::Alias(target) => alias(&query, question, zone, &target),
    }
}

fn lookup(zone: &Zone, name: &str, kind: Kind) -> Answer {
    let name = name.trim_end_matches('.');
    let labels: Vec<&str> = name.split('.').collect();
    zone.lookup(&labels, kind)
}

fn kind(record_type: RecordType) -> Kind {
    match record_type {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::SRV => Kind::Srv,
        RecordType::PTR => Kind::Ptr,
        RecordType::TXT => Kind::Txt,
        RecordType::SOA => Kind::Soa,
        RecordType::NS => Kind::Ns,
        _ => Kind::Other,
    }
}

/// A reply to `query` without records.
fn begin(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.authoritative = true;
    reply.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM).set_version(0);
        reply.set_edns(edns);
    }
    reply
}

fn refuse(query: &Message, code: ResponseCode) -> Reply {
    let mut reply = begin(query);
    reply.metadata.authoritative = false;
    reply.metadata.response_code = code;
    Reply::Ready(Box::new(reply))
}

/// The reply when those who were asked failed.
pub(super) fn failed(query: &Message) -> Message {
    let mut reply = begin(query);
    reply.metadata.authoritative = false;
    reply.metadata.response_code = ResponseCode::ServFail;
    reply
}

/// The reply to what can't be read, if it has at least a header of a query.
fn malformed(bytes: &[u8]) -> Reply {
    match bytes {
        [a, b, flags, ..] if bytes.len() >= HEADER && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*a, *b]);
            Reply::Ready(Box::new(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)))
        }
        _ => Reply::Silence,
    }
}

fn found(query: &Message, question: &Query, zone: &Zone, records: &[Data]) -> Message {
    let mut reply = begin(query);
    for data in records {
        add(&mut reply, question.name(), zone, data);
    }
    if reply.answers.is_empty() {
        add_authority(&mut reply, zone);
    }
    reply
}

/// The alias, and what it stands for if that is the zone's too.
fn alias(query: &Message, question: &Query, zone: &Zone, target: &str) -> Reply {
    let mut reply = begin(query);
    let Some(target_name) = absolute(target) else {
        return refuse(query, ResponseCode::ServFail);
    };
    reply.add_answer(Record::from_rdata(question.name().clone(), TTL, RData::CNAME(CNAME(target_name.clone()))));
    if question.query_type() == RecordType::CNAME {
        return Reply::Ready(Box::new(reply));
    }
    match lookup(zone, target, kind(question.query_type())) {
        Answer::Elsewhere => return Reply::Complete(Box::new(reply), target_name),
        Answer::Found(records) => records.iter().for_each(|data| add(&mut reply, &target_name, zone, data)),
        // An alias of an alias of the zone is a Service's mistake: what is known is told.
        Answer::Alias(_) | Answer::NoSuchName => {}
    }
    Reply::Ready(Box::new(reply))
}

fn add(reply: &mut Message, owner: &Name, zone: &Zone, data: &Data) {
    let record = |name: &Name, data: RData| Record::from_rdata(name.clone(), TTL, data);
    match data {
        Data::Address(address) => {
            reply.add_answer(record(owner, address_data(*address)));
        }
        Data::Text(text) => {
            reply.add_answer(record(owner, RData::TXT(TXT::new(vec![text.clone()]))));
        }
        Data::Name(name) => {
            if let Some(name) = absolute(name) {
                reply.add_answer(record(owner, RData::PTR(PTR(name))));
            }
        }
        Data::Authority => {
            if let Some(soa) = authority(zone) {
                reply.add_answer(soa);
            }
        }
        Data::Service { port, target, addresses } => {
            let Some(target) = absolute(target) else { return };
            reply.add_answer(record(owner, RData::SRV(SRV::new(0, 100, *port, target.clone()))));
            for address in addresses {
                add_additional(reply, record(&target, address_data(*address)));
            }
        }
        Data::Server { name, addresses } => {
            let Some(name) = absolute(name) else { return };
            reply.add_answer(record(owner, RData::NS(NS(name.clone()))));
            for address in addresses {
                add_additional(reply, record(&name, address_data(*address)));
            }
        }
    }
}

/// Several ports at one target name it once.
fn add_additional(reply: &mut Message, record: Record) {
    if !reply.additionals.contains(&record) {
        reply.add_additional(record);
    }
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn absolute(name: &str) -> Option<Name> {
    Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).ok()
}

fn add_authority(reply: &mut Message, zone: &Zone) {
    if let Some(soa) = authority(zone) {
        reply.add_authority(soa);
    }
}

/// The zone's SOA; by its last number clients know how long an absence holds.
fn authority(zone: &Zone) -> Option<Record> {
    let domain = zone.domain();
    let (owner, server) = (absolute(&domain)?, absolute(&format!("ns.dns.{domain}"))?);
    let contact = absolute(&format!("hostmaster.{domain}"))?;
    Some(Record::from_rdata(owner, TTL, RData::SOA(SOA::new(server, contact, 1, 7200, 1800, 86_400, TTL))))
}

/// The bytes of a reply to a client that sent `query` by datagram: cut and marked so if it would not fit.
pub(super) fn datagram(reply: &Message, limit: u16) -> Option<Vec<u8>> {
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= usize::from(limit) {
        return Some(bytes);
    }
    let mut cut = reply.truncate();
    cut.metadata.truncation = true;
    cut.to_vec().ok()
}

/// How long a datagram the sender of `query` takes.
pub(super) fn datagram_limit(query: &[u8]) -> u16 {
    match Message::from_vec(query).ok().and_then(|query| query.edns) {
        Some(edns) => edns.max_payload().clamp(CLASSIC_DATAGRAM, MAX_DATAGRAM),
        None => CLASSIC_DATAGRAM,
    }
}
