/* Numbers for what attacks programs. */
#ifndef EDGES_H
#define EDGES_H

#include <stdint.h>

static uint64_t random_state;

static uint32_t next_random(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

/* Values near the edges of every type are likelier to slip past a check than random ones. */
static uint32_t interesting(uint32_t old) {
    static const uint32_t edges[] = {0,   1,   2,   3,      7,      8,          15,         16,        127,
                                     128, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
    uint32_t edge = edges[next_random() % (sizeof edges / sizeof edges[0])];
    switch (next_random() % 4u) {
    case 0: return edge;
    case 1: return old + edge;
    case 2: return old ^ (1u << (next_random() & 31u));
    default: return next_random();
    }
}

#endif
