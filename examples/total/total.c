/* Adds up the numbers it is given to read, one a line, and says their sum.
 *
 *     printf '1\n2\n' | cosmos run total.wasm
 *
 * In C, to show that a capsule may be written in anything that becomes WebAssembly. The C library that Rust brings along
 * for the same machine is used, without its headers: so what is needed of it is declared here.
 */
extern int scanf(const char *, ...);
extern int printf(const char *, ...);

int main(int count, char **words) {
    long long sum = 0, number;
    while (scanf("%lld", &number) == 1)
        sum += number;
    printf("%s: %lld\n", count > 1 ? words[1] : "total", sum);
    return sum == 0;
}
