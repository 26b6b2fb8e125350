// What kernels print: each conversion with flags, widths and precisions; characters, strings and pointers; lengths.

extern "C" __global__ void print_numbers(int i, unsigned u, long long l, double d) {
    printf("%d|%5d|%-5d|%05d|%+d|% d|%i\n", i, i, i, i, i, i, i);
    printf("%u|%x|%X|%#x|%o|%012x\n", u, u, u, u, u, u);
    printf("%lld|%llu|%llx|%20lld|%ld\n", l, (unsigned long long)l, l, l, (long)l);
    printf("%f|%.3f|%10.2f|%-10.2f|%e|%g|%G|%+.1f|%010.3f\n", d, d, d, d, d, d, d, d, d);
    printf("%E|%.0f\n", d, d);
    printf("%*d|%-*d|\n", 7, i, 4, i);
}

extern "C" __global__ void print_text(const char* s) {
    printf("plain\n");
    printf("%c%c|%s|%10s|%-10s|%.2s|%%\n", 'a', 'b', "literal", "right", "left", "cut");
    printf("%s\n", s);
    printf("%hd %hu %f\n", (short)-3, (unsigned short)65535, 0.5f);
    printf("%p\n", (void*)0x1234);
    printf("");
}

// Every thread of every block a line. On the device printf returns the number of its arguments.
extern "C" __global__ void print_threads(int* returned) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    returned[i] = printf("block %d thread %d is %s\n", blockIdx.x, threadIdx.x, threadIdx.x % 2 ? "odd" : "even");
}
