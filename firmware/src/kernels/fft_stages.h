/* The Fourier transform of real signals for one element type; fft.c includes it once a type, with
 *   ELEMENT, WIDE        the type, and the type that holds the sum of two products
 *   FRACTION             bits of fraction of a fixed-point ELEMENT; not defined for float
 *   NAME(x)              x with the type's suffix
 * Rounding is that of KISS FFT 130, which tflite-micro uses, so that results are equal bit for bit: fixed-point values
 * are multiplied by 1 / radix before each stage, every product is rounded to the nearest, ties up, sums wrap. */

#define COMPLEX NAME(complex)

typedef struct COMPLEX {
    ELEMENT re;
    ELEMENT im;
} COMPLEX;

#ifdef FRACTION
#define HALF(x) ((x) >> 1)
static inline ELEMENT NAME(rounded)(WIDE x) { return (ELEMENT)((x + ((WIDE)1 << (FRACTION - 1))) >> FRACTION); }
/* 1 / divisor in fixed point */
#define PART(divisor) ((WIDE)((((uint32_t)1 << FRACTION) - 1u) / (divisor)))
#else
#define HALF(x) ((x)*0.5f)
static inline ELEMENT NAME(rounded)(WIDE x) { return x; }
#define PART(divisor) 1.0f
#endif

static inline ELEMENT NAME(scaled)(ELEMENT x, WIDE factor) { return NAME(rounded)((WIDE)x * factor); }

/* x / divisor in fixed point; x itself in float, whose results are not scaled */
#define SHARE(x, divisor) ((COMPLEX){NAME(scaled)((x).re, PART(divisor)), NAME(scaled)((x).im, PART(divisor))})

static inline COMPLEX NAME(sum)(COMPLEX a, COMPLEX b) {
    return (COMPLEX){(ELEMENT)(a.re + b.re), (ELEMENT)(a.im + b.im)};
}

static inline COMPLEX NAME(difference)(COMPLEX a, COMPLEX b) {
    return (COMPLEX){(ELEMENT)(a.re - b.re), (ELEMENT)(a.im - b.im)};
}

static inline COMPLEX NAME(product)(COMPLEX a, COMPLEX b) {
    return (COMPLEX){NAME(rounded)((WIDE)a.re * b.re - (WIDE)a.im * b.im),
                     NAME(rounded)((WIDE)a.re * b.im + (WIDE)a.im * b.re)};
}

static inline COMPLEX NAME(conjugate)(COMPLEX a) { return (COMPLEX){a.re, (ELEMENT)-a.im}; }

/* a + b * i */
static inline COMPLEX NAME(turned)(COMPLEX a, COMPLEX b) {
    return (COMPLEX){(ELEMENT)(a.re - b.im), (ELEMENT)(a.im + b.re)};
}

/* a - b * i */
static inline COMPLEX NAME(turned_back)(COMPLEX a, COMPLEX b) {
    return (COMPLEX){(ELEMENT)(a.re + b.im), (ELEMENT)(a.im - b.re)};
}

/* A stage joins `radix` transforms of m points each into one, in each of `blocks` blocks. Point k of the second
 * transform is turned by twiddle w[k * blocks], that of the third twice as far, and so on. */
#define EACH_BLOCK(radix) \
    COMPLEX *d = data;    \
    for (uint32_t block = 0; block < blocks; block++, d += (radix)*m)

static void NAME(join_2)(COMPLEX *data, uint32_t m, uint32_t blocks, const COMPLEX *w) {
    for (uint32_t k = 0; k < m; k++, data++) {
        const COMPLEX w1 = w[k * blocks];
        EACH_BLOCK(2) {
            COMPLEX a = SHARE(d[0], 2);
            COMPLEX b = NAME(product)(SHARE(d[m], 2), w1);
            d[m] = NAME(difference)(a, b);
            d[0] = NAME(sum)(a, b);
        }
    }
}

static void NAME(join_3)(COMPLEX *data, uint32_t m, uint32_t blocks, const COMPLEX *w) {
    const ELEMENT sine = w[m * blocks].im; /* of a third of a turn */
    for (uint32_t k = 0; k < m; k++, data++) {
        const COMPLEX w1 = w[k * blocks], w2 = w[2 * k * blocks];
        EACH_BLOCK(3) {
            COMPLEX a = SHARE(d[0], 3);
            COMPLEX b = NAME(product)(SHARE(d[m], 3), w1);
            COMPLEX c = NAME(product)(SHARE(d[2 * m], 3), w2);
            COMPLEX sum = NAME(sum)(b, c);
            COMPLEX rest = NAME(difference)(b, c);
            COMPLEX middle = {(ELEMENT)(a.re - HALF(sum.re)), (ELEMENT)(a.im - HALF(sum.im))};
            rest = (COMPLEX){NAME(scaled)(rest.re, sine), NAME(scaled)(rest.im, sine)};
            d[0] = NAME(sum)(a, sum);
            d[m] = NAME(turned)(middle, rest);
            d[2 * m] = NAME(turned_back)(middle, rest);
        }
    }
}

static void NAME(join_4)(COMPLEX *data, uint32_t m, uint32_t blocks, const COMPLEX *w, bool inverse) {
    const uint32_t near = inverse ? 3 * m : m;
    const uint32_t far = inverse ? m : 3 * m;
    for (uint32_t k = 0; k < m; k++, data++) {
        const COMPLEX w1 = w[k * blocks], w2 = w[2 * k * blocks], w3 = w[3 * k * blocks];
        EACH_BLOCK(4) {
            COMPLEX a = SHARE(d[0], 4);
            COMPLEX b = NAME(product)(SHARE(d[m], 4), w1);
            COMPLEX c = NAME(product)(SHARE(d[2 * m], 4), w2);
            COMPLEX e = NAME(product)(SHARE(d[3 * m], 4), w3);
            COMPLEX even = NAME(sum)(a, c);
            COMPLEX even_rest = NAME(difference)(a, c);
            COMPLEX odd = NAME(sum)(b, e);
            COMPLEX odd_rest = NAME(difference)(b, e);
            d[0] = NAME(sum)(even, odd);
            d[2 * m] = NAME(difference)(even, odd);
            d[near] = NAME(turned_back)(even_rest, odd_rest);
            d[far] = NAME(turned)(even_rest, odd_rest);
        }
    }
}

/* a + x * p + y * q, the products rounded each for itself */
static inline COMPLEX NAME(mixed)(COMPLEX a, COMPLEX x, ELEMENT p, COMPLEX y, ELEMENT q) {
    return (COMPLEX){(ELEMENT)(a.re + NAME(scaled)(x.re, p) + NAME(scaled)(y.re, q)),
                     (ELEMENT)(a.im + NAME(scaled)(x.im, p) + NAME(scaled)(y.im, q))};
}

static void NAME(join_5)(COMPLEX *data, uint32_t m, uint32_t blocks, const COMPLEX *w) {
    const COMPLEX one = w[m * blocks], two = w[2 * m * blocks]; /* fifths of a turn */
    for (uint32_t k = 0; k < m; k++, data++) {
        const uint32_t turn = k * blocks;
        EACH_BLOCK(5) {
            COMPLEX a = SHARE(d[0], 5);
            COMPLEX b = NAME(product)(SHARE(d[m], 5), w[turn]);
            COMPLEX c = NAME(product)(SHARE(d[2 * m], 5), w[2 * turn]);
            COMPLEX e = NAME(product)(SHARE(d[3 * m], 5), w[3 * turn]);
            COMPLEX f = NAME(product)(SHARE(d[4 * m], 5), w[4 * turn]);
            COMPLEX outer = NAME(sum)(b, f);
            COMPLEX outer_rest = NAME(difference)(b, f);
            COMPLEX inner = NAME(sum)(c, e);
            COMPLEX inner_rest = NAME(difference)(c, e);
            d[0] = NAME(sum)(a, NAME(sum)(outer, inner));
            COMPLEX x = NAME(mixed)(a, outer, one.re, inner, two.re);
            COMPLEX y;
            y.re = (ELEMENT)(NAME(scaled)(outer_rest.im, one.im) + NAME(scaled)(inner_rest.im, two.im));
            y.im = (ELEMENT)(-NAME(scaled)(outer_rest.re, one.im) - NAME(scaled)(inner_rest.re, two.im));
            d[m] = NAME(difference)(x, y);
            d[4 * m] = NAME(sum)(x, y);
            x = NAME(mixed)(a, outer, two.re, inner, one.re);
            y.re = (ELEMENT)(-NAME(scaled)(outer_rest.im, two.im) + NAME(scaled)(inner_rest.im, one.im));
            y.im = (ELEMENT)(NAME(scaled)(outer_rest.re, two.im) - NAME(scaled)(inner_rest.re, one.im));
            d[2 * m] = NAME(sum)(x, y);
            d[3 * m] = NAME(difference)(x, y);
        }
    }
}

/* The transform of `data`, whose points lie in the order that gather() gives them. */
static void NAME(transform)(const ml_fft_args *a, COMPLEX *data, const COMPLEX *twiddles, bool inverse) {
    uint32_t blocks = a->points;
    uint32_t m = 1;
    for (uint32_t stage = stage_count(a); stage-- > 0;) {
        const uint32_t radix = a->radices[stage];
        blocks /= radix;
        switch (radix) {
        case 2: NAME(join_2)(data, m, blocks, twiddles); break;
        case 3: NAME(join_3)(data, m, blocks, twiddles); break;
        case 4: NAME(join_4)(data, m, blocks, twiddles, inverse); break;
        default: NAME(join_5)(data, m, blocks, twiddles); break;
        }
        m *= radix;
    }
}

/* The points of a row of `length` numbers, zeros behind them, in the order in which the first stage takes them. */
static void NAME(gather)(const ml_fft_args *a, COMPLEX *data, const ELEMENT *row, uint32_t length) {
    order at = {0};
    start_order(&at, a);
    for (uint32_t i = 0; i < a->points; i++) {
        uint32_t k = 2 * at.point;
        data[i].re = k < length ? row[k] : 0;
        data[i].im = k + 1 < length ? row[k + 1] : 0;
        next_point(&at, a);
    }
}

/* From the transform of points whose parts are the even and the odd numbers of a real signal, to that signal's. */
static void NAME(split)(COMPLEX *data, const COMPLEX *turns, uint32_t points) {
    COMPLEX a = SHARE(data[0], 2);
    data[points] = (COMPLEX){(ELEMENT)(a.re - a.im), 0};
    data[0] = (COMPLEX){(ELEMENT)(a.re + a.im), 0};
    for (uint32_t k = 1; k <= points / 2; k++) {
        a = SHARE(data[k], 2);
        COMPLEX b = NAME(conjugate)(data[points - k]);
        b = SHARE(b, 2);
        COMPLEX even = NAME(sum)(a, b);
        COMPLEX odd = NAME(product)(NAME(difference)(a, b), turns[k - 1]);
        data[k].re = (ELEMENT)HALF(even.re + odd.re);
        data[k].im = (ELEMENT)HALF(even.im + odd.im);
        data[points - k].re = (ELEMENT)HALF(even.re - odd.re);
        data[points - k].im = (ELEMENT)HALF(odd.im - even.im);
    }
}

/* The way back: from a real signal's transform to that of points made of its even and odd numbers. */
static void NAME(merge)(COMPLEX *data, const COMPLEX *spectrum, const COMPLEX *turns, uint32_t points) {
    data[0].re = (ELEMENT)(spectrum[0].re + spectrum[points].re);
    data[0].im = (ELEMENT)(spectrum[0].re - spectrum[points].re);
    data[0] = SHARE(data[0], 2);
    for (uint32_t k = 1; k <= points / 2; k++) {
        COMPLEX a = SHARE(spectrum[k], 2);
        COMPLEX b = NAME(conjugate)(spectrum[points - k]);
        b = SHARE(b, 2);
        COMPLEX even = NAME(sum)(a, b);
        COMPLEX odd = NAME(product)(NAME(difference)(a, b), turns[k - 1]);
        data[k] = NAME(sum)(even, odd);
        data[points - k] = NAME(conjugate)(NAME(difference)(even, odd));
    }
}

static void NAME(rfft)(const ml_fft_args *a, void *const *operands) {
    const ELEMENT *input = operands[0];
    COMPLEX *output = operands[1];
    for (uint32_t row = 0; row < a->rows; row++, input += a->length, output += a->points + 1) {
        NAME(gather)(a, output, input, a->length);
        NAME(transform)(a, output, operands[2], false);
        NAME(split)(output, operands[3], a->points);
    }
}

static void NAME(irfft)(const ml_fft_args *a, void *const *operands) {
    const COMPLEX *input = operands[0];
    COMPLEX *output = operands[1];
    for (uint32_t row = 0; row < a->rows; row++, input += a->points + 1, output += a->points) {
        NAME(merge)(operands[4], input, operands[3], a->points);
        NAME(gather)(a, output, operands[4], 2 * a->points);
        NAME(transform)(a, output, operands[2], true);
    }
}

#undef COMPLEX
#undef HALF
#undef PART
#undef SHARE
#undef EACH_BLOCK
