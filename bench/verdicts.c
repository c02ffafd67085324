/* A queue's packets answered by libnetfilter_queue, as its manual shows it, to compare with.
 *
 *   verdicts NUMBER MASK MARK...
 *
 * Each packet gets the marks in turn, in the bits of MASK. Options are those of Markway's worker.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static uint32_t mask, *marks;
static int count, turn;

static int answer(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *packet, void *unused) {
    struct nfqnl_msg_packet_hdr *head = nfq_get_msg_packet_hdr(packet);
    unsigned char *payload;
    uint32_t mark = (nfq_get_nfmark(packet) & ~mask) | marks[turn];
    (void)message, (void)unused;
    nfq_get_payload(packet, &payload);
    turn = turn + 1 == count ? 0 : turn + 1;
    return nfq_set_verdict2(queue, ntohl(head->packet_id), NF_ACCEPT, mark, 0, NULL);
}

int main(int argc, char **argv) {
    static char buffer[4096] __attribute__((aligned));
    if (argc < 4) return fprintf(stderr, "verdicts NUMBER MASK MARK...\n"), 2;
    mask = strtoul(argv[2], 0, 0);
    count = argc - 3;
    marks = calloc(count, sizeof *marks);
    for (int i = 0; i < count; i++) marks[i] = strtoul(argv[i + 3], 0, 0);
    struct nfq_handle *library = nfq_open();
    struct nfq_q_handle *queue = library ? nfq_create_queue(library, atoi(argv[1]), answer, 0) : 0;
    if (!queue || nfq_set_mode(queue, NFQNL_COPY_PACKET, 128) < 0 || nfq_set_queue_maxlen(queue, 256) < 0 ||
        nfq_set_queue_flags(queue, NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_GSO, NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_GSO) < 0)
        return perror("queue"), 1;
    nfnl_rcvbufsiz(nfq_nfnlh(library), 1 << 22);
    for (;;) {
        ssize_t length = recv(nfq_fd(library), buffer, sizeof buffer, 0);
        if (length >= 0) nfq_handle_packet(library, buffer, length);
        else if (errno != ENOBUFS && errno != EINTR) return perror("recv"), 1;
    }
}
