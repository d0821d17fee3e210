/* What NVML would say on a machine with two GPUs, for tests: with the names, types and numbers of nvml.h. */
#include <stdio.h>
#include <string.h>

typedef void *device;
static int numbers[2] = {0, 1};

static unsigned kept(const char *file, unsigned otherwise) {
  FILE *from = fopen(file, "r");
  unsigned found = otherwise;
  if (from) {
    if (fscanf(from, "%u", &found) != 1) found = otherwise;
    fclose(from);
  }
  return found;
}

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 4 ? "Insufficient Permissions" : code == 3 ? "Not Supported" : "Unknown Error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device *found) { *found = &numbers[index]; return 0; }
int nvmlDeviceGetUUID(device of, char *text, unsigned length) { snprintf(text, length, "GPU-%d", *(int *)of); return 0; }
int nvmlDeviceGetName(device of, char *text, unsigned length) { snprintf(text, length, *(int *)of ? "Another card" : "A card"); return 0; }
int nvmlDeviceGetTemperature(device of, int sensor, unsigned *celsius) {
  if (sensor != 0) return 2;
  *celsius = *(int *)of ? 30 : kept(FOLDER "/celsius", 61);
  return 0;
}
int nvmlDeviceGetTemperatureThreshold(device of, int kind, unsigned *celsius) {
  if (*(int *)of) return 3;
  if (kind == 1) { *celsius = 95; return 0; }
  if (kind == 3) { *celsius = 87; return 0; }
  return 3;
}
int nvmlDeviceGetPowerUsage(device of, unsigned *milliwatts) {
  if (*(int *)of) return 3;
  *milliwatts = 312500;
  return 0;
}
int nvmlDeviceGetUtilizationRates(device of, unsigned *rates) {
  if (*(int *)of) return 3;
  rates[0] = 42;
  rates[1] = 7;
  return 0;
}
int nvmlDeviceGetPowerManagementLimit(device of, unsigned *milliwatts) {
  if (*(int *)of) return 3;
  *milliwatts = kept(FOLDER "/limit", 700000);
  return 0;
}
int nvmlDeviceGetPowerManagementLimitConstraints(device of, unsigned *least, unsigned *most) {
  if (*(int *)of) return 3;
  *least = 200000;
  *most = 700000;
  return 0;
}
int nvmlDeviceSetPowerManagementLimit(device of, unsigned milliwatts) {
  FILE *permitted = fopen(FOLDER "/permitted", "r"), *to;
  if (*(int *)of) return 3;
  if (!permitted) return 4;
  fclose(permitted);
  if (milliwatts < 200000 || milliwatts > 700000) return 2;
  to = fopen(FOLDER "/limit", "w");
  if (!to) return 999;
  fprintf(to, "%u\n", milliwatts);
  fclose(to);
  return 0;
}
