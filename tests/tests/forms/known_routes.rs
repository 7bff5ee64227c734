//! Ways to clients that programs know already: an answer is used again for the same question only, and says what the
//! kernel's FIB would.

use lbx_tests::{
    family::Family,
    lab::{Lab, On, Outcome},
    packets::{Packet, Transport, frame},
    topology::PUBLIC_DEVICE,
    world::{self, Mode, Network, client, endpoints, ports},
};
use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};

use crate::stock::of_gateway;

/// Of a router that some replies go by.
const ROUTER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];
const CLIENT_MAC: [u8; 6] = lbx_tests::lab::PEER_MAC;
const LBX0_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x03];

struct Of {
    lab: Lab,
    family: Family,
}

impl Of {
    fn new(family: Family) -> Self {
        // Each CPU knows what it has asked itself.
        let mut cpus = CpuSet::new();
        cpus.set(sched_getcpu().unwrap()).unwrap();
        sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
        let this = Self { lab: Lab::new(&world::config()).unwrap(), family };
        let [_, router, client] = this.addresses();
        this.ip(&format!("neigh add {router} lladdr 02:00:00:00:00:99 dev {PUBLIC_DEVICE} nud permanent"));
        this.ip(&format!("route add {client} via {router} dev {PUBLIC_DEVICE} table 77"));
        this
    }

    /// Family for `ip`, router, client.
    fn addresses(&self) -> [&str; 3] {
        match self.family {
            Family::V4 => ["-4", "192.0.2.9", "192.0.2.2/32"],
            Family::V6 => ["-6", "2001:db8:2::9", "2001:db8:2::2/128"],
        }
    }

    /// Changes the kernel's tables, and says so as an agent does.
    fn ip(&self, arguments: &str) {
        let [family, ..] = self.addresses();
        self.lab.netns().ip(&format!("{family} {arguments}")).unwrap();
        self.lab.known_routes().forget();
    }

    fn run(&self, network: Network, packet: &Packet) -> Outcome {
        self.lab
            .run(On::Underlay, &frame(&of_gateway(network, &packet.to_bytes()).to_bytes().unwrap()))
            .unwrap()
    }

    /// Runs it as often as it takes to know the way, and once more. How often the kernel was asked for the last one.
    fn questions(&self, network: Network, packet: &Packet) -> (Outcome, u64) {
        self.lab.known_routes().keep_answers(false);
        let asked = self.run(network, packet);
        self.lab.known_routes().keep_answers(true);
        assert_eq!(self.run(network, packet), asked, "{packet:?}");
        let before = self.lab.fib_questions().unwrap();
        assert_eq!(self.run(network, packet), asked, "{packet:?}");
        (asked, self.lab.fib_questions().unwrap() - before)
    }

    fn reply(&self, transport: Transport, tos: u8, bytes: usize) -> Packet {
        let source = (endpoints(self.family, Mode::Nat)[0], ports(Mode::Nat, transport).1);
        Packet { tos, data: vec![0x5a; bytes], ..Packet::new(transport, source, client(self.family)) }
    }
}

#[test]
fn an_answer_is_for_its_source_its_protocol_and_its_type_of_service() {
    let [first, second] = [Network::all()[0], Network::all()[1]];
    for family in Family::ALL {
        let of = Of::new(family);
        let replies = [
            (first, of.reply(Transport::Tcp, 0, 9)),
            (second, of.reply(Transport::Tcp, 0, 9)),
            (first, of.reply(Transport::Udp, 0, 9)),
            (first, of.reply(Transport::Tcp, 0x10, 9)),
        ];
        let vip = second.vip(family, Mode::Nat);
        for (rule, other) in
            [(format!("from {vip}"), 1), ("ipproto udp".to_owned(), 2), ("tos 0x10".to_owned(), 3)]
        {
            of.ip(&format!("rule add {rule} lookup 77"));
            let mac_of = |place| if place == other { ROUTER_MAC } else { CLIENT_MAC };
            // By turns, so that one could be taken for another.
            for (place, (network, packet)) in replies.iter().enumerate().chain(replies.iter().enumerate()) {
                assert_eq!(of.run(*network, packet).frame[..6], mac_of(place), "{rule}: {packet:?}");
            }
            for (place, (network, packet)) in replies.iter().enumerate() {
                let (outcome, asked) = of.questions(*network, packet);
                let mac = mac_of(place);
                assert_eq!(outcome.frame[..6], mac, "{rule}: {packet:?}");
                assert_eq!(asked, 0, "{rule}: {packet:?}");
            }
            of.ip(&format!("rule del {rule} lookup 77"));
        }
    }
}

#[test]
fn an_answer_is_for_packets_that_fit_the_way() {
    let network = Network::all()[0];
    for family in Family::ALL {
        let of = Of::new(family);
        let [_, _, client] = of.addresses();
        // What is not locked does not count for packets of IPv4 that are forwarded (`ip_mtu_from_fib_result`).
        of.ip(&format!("route add {client} dev {PUBLIC_DEVICE} mtu lock 1300"));
        let headers = of.reply(Transport::Tcp, 0, 0).to_bytes().len();
        let reply = |length, tos, dont_fragment| Packet {
            dont_fragment,
            ..of.reply(Transport::Tcp, tos, length - headers)
        };
        // The short one makes the way known, the longest that fits goes by it.
        for length in [100, 1300] {
            let (outcome, asked) = of.questions(network, &reply(length, 0, true));
            assert_eq!((&outcome.frame[..6], asked), (&CLIENT_MAC[..], 0), "{length} bytes of {family}");
        }
        let (outcome, asked) = of.questions(network, &reply(1301, 0, true));
        assert_eq!(asked, 1);
        // Back into the tunnel, with what fits.
        let told = lbx_tests::tunnel::unwrap(&outcome.frame).unwrap().unwrap().inner;
        let mtu = if family == Family::V4 { &told[26..28] } else { &told[46..48] };
        assert_eq!(mtu, 1300_u16.to_be_bytes(), "{family}");
        if family == Family::V4 {
            let (outcome, asked) = of.questions(network, &reply(1301, 0, false));
            assert_eq!((&outcome.frame[..6], asked), (&LBX0_MAC[..], 1));
        }
        // The bits of ECN make no question of their own.
        of.run(network, &reply(100, 0, true));
        let before = of.lab.fib_questions().unwrap();
        of.run(network, &reply(100, 2, true));
        assert_eq!(of.lab.fib_questions().unwrap(), before);
    }
}

#[test]
fn what_the_kernel_has_no_way_for_is_asked_each_time_and_news_void_an_answer() {
    let network = Network::all()[0];
    for family in Family::ALL {
        let of = Of::new(family);
        let [_, _, client] = of.addresses();
        let packet = of.reply(Transport::Tcp, 0, 9);
        let (outcome, _) = of.questions(network, &packet);
        assert_eq!(outcome.frame[..6], CLIENT_MAC);
        of.ip(&format!("rule add to {client} lookup 77"));
        assert_eq!(of.run(network, &packet).frame[..6], ROUTER_MAC);
        of.ip(&format!("route del {client} table 77"));
        of.ip(&format!("route add unreachable {client} table 77"));
        assert_eq!(of.questions(network, &packet).1, 1);
    }
}
