/* An Arduino sketch: classifies a handwritten five again and again, and says how long it takes. */
#include <Arduino.h>

#include "classify.h"

static const uint8_t five[64] = {
    0, 3, 11, 15, 12, 7, 1, 0, 0, 4, 16, 13, 11, 9, 6, 0, 0, 4, 15, 0,  0, 0, 0, 0, 0, 3, 16, 8, 0, 0, 0, 0,
    0, 0, 11, 16, 8,  0, 0, 0, 0, 0, 0,  13, 12, 0, 0, 0, 0, 1, 7,  16, 3, 0, 0, 0, 0, 5, 13, 6, 0, 0, 0, 0,
};

void setup() { Serial.begin(115200); }

void loop() {
    const unsigned long start_us = micros();
    const int digit = classify(five);
    const unsigned long took_us = micros() - start_us;
    Serial.print("digit ");
    Serial.print(digit);
    Serial.print(" after ");
    Serial.print(took_us);
    Serial.println(" us");
    delay(1000);
}
