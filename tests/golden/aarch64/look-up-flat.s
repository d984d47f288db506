sub x0, x0, #1
add x1, x2, #10
add x3, x4, #320
ldrb w5, [x2]
uxtb w5, w5
ldr q0, [x6, x5, LSL #4]
ldr q1, [x4]
and v2.16b, v1.16b, v3.16b
tbl v2.16b, { v0.16b }, v2.16b
add v4.16b, v5.16b, v2.16b
ldrb w5, [x2, #1]
uxtb w5, w5
ldr q2, [x6, x5, LSL #4]
ushr v1.16b, v1.16b, #4
tbl v1.16b, { v2.16b }, v1.16b
add v4.16b, v4.16b, v1.16b
ldrb w5, [x2, #2]
uxtb w5, w5
ldr q1, [x6, x5, LSL #4]
ldr q6, [x4, #64]
and v7.16b, v6.16b, v3.16b
tbl v7.16b, { v1.16b }, v7.16b
add v7.16b, v4.16b, v7.16b
ldrb w5, [x2, #3]
uxtb w5, w5
ldr q4, [x6, x5, LSL #4]
ushr v6.16b, v6.16b, #4
tbl v6.16b, { v4.16b }, v6.16b
add v7.16b, v7.16b, v6.16b
ldrb w5, [x2, #4]
uxtb w5, w5
ldr q6, [x6, x5, LSL #4]
ldr q8, [x4, #128]
and v5.16b, v8.16b, v3.16b
tbl v5.16b, { v6.16b }, v5.16b
add v5.16b, v7.16b, v5.16b
ldrb w5, [x2, #5]
uxtb w5, w5
ldr q7, [x6, x5, LSL #4]
ushr v8.16b, v8.16b, #4
tbl v8.16b, { v7.16b }, v8.16b
add v5.16b, v5.16b, v8.16b
ldrb w5, [x2, #6]
uxtb w5, w5
ldr q8, [x6, x5, LSL #4]
ldr q9, [x4, #192]
and v10.16b, v9.16b, v3.16b
tbl v10.16b, { v8.16b }, v10.16b
add v5.16b, v5.16b, v10.16b
ldrb w5, [x2, #7]
uxtb w5, w5
ldr q10, [x6, x5, LSL #4]
ushr v9.16b, v9.16b, #4
tbl v9.16b, { v10.16b }, v9.16b
add v5.16b, v5.16b, v9.16b
ldrb w5, [x2, #8]
uxtb w5, w5
ldr q9, [x6, x5, LSL #4]
ldr q11, [x4, #256]
and v12.16b, v11.16b, v3.16b
tbl v12.16b, { v9.16b }, v12.16b
add v5.16b, v5.16b, v12.16b
ldrb w5, [x2, #9]
uxtb w5, w5
ldr q12, [x6, x5, LSL #4]
ushr v11.16b, v11.16b, #4
tbl v11.16b, { v12.16b }, v11.16b
add v5.16b, v5.16b, v11.16b
ldr q11, [x4, #16]
and v13.16b, v11.16b, v3.16b
tbl v13.16b, { v0.16b }, v13.16b
add v14.16b, v14.16b, v13.16b
ushr v11.16b, v11.16b, #4
tbl v11.16b, { v2.16b }, v11.16b
add v14.16b, v14.16b, v11.16b
ldr q11, [x4, #80]
and v13.16b, v11.16b, v3.16b
tbl v13.16b, { v1.16b }, v13.16b
add v14.16b, v14.16b, v13.16b
ushr v11.16b, v11.16b, #4
tbl v11.16b, { v4.16b }, v11.16b
add v14.16b, v14.16b, v11.16b
ldr q11, [x4, #144]
and v13.16b, v11.16b, v3.16b
tbl v13.16b, { v6.16b }, v13.16b
add v14.16b, v14.16b, v13.16b
ushr v11.16b, v11.16b, #4
tbl v11.16b, { v7.16b }, v11.16b
add v14.16b, v14.16b, v11.16b
ldr q11, [x4, #208]
and v13.16b, v11.16b, v3.16b
tbl v13.16b, { v8.16b }, v13.16b
add v14.16b, v14.16b, v13.16b
ushr v11.16b, v11.16b, #4
tbl v11.16b, { v10.16b }, v11.16b
add v14.16b, v14.16b, v11.16b
ldr q11, [x4, #272]
and v13.16b, v11.16b, v3.16b
tbl v13.16b, { v9.16b }, v13.16b
add v14.16b, v14.16b, v13.16b
ushr v11.16b, v11.16b, #4
tbl v11.16b, { v12.16b }, v11.16b
add v14.16b, v14.16b, v11.16b
ldr q11, [x4, #32]
and v13.16b, v11.16b, v3.16b
tbl v13.16b, { v0.16b }, v13.16b
add v15.16b, v15.16b, v13.16b
ushr v11.16b, v11.16b, #4
tbl v11.16b, { v2.16b }, v11.16b
add v15.16b, v15.16b, v11.16b
ldr q11, [x4, #96]
and v13.16b, v11.16b, v3.16b
tbl v13.16b, { v1.16b }, v13.16b
add v15.16b, v15.16b, v13.16b
ushr v11.16b, v11.16b, #4
tbl v11.16b, { v4.16b }, v11.16b
add v15.16b, v15.16b, v11.16b
ldr q11, [x4, #160]
and v13.16b, v11.16b, v3.16b
tbl v13.16b, { v6.16b }, v13.16b
add v15.16b, v15.16b, v13.16b
ushr v11.16b, v11.16b, #4
tbl v11.16b, { v7.16b }, v11.16b
add v15.16b, v15.16b, v11.16b
ldr q11, [x4, #224]
and v13.16b, v11.16b, v3.16b
tbl v13.16b, { v8.16b }, v13.16b
add v15.16b, v15.16b, v13.16b
ushr v11.16b, v11.16b, #4
tbl v11.16b, { v10.16b }, v11.16b
add v15.16b, v15.16b, v11.16b
ldr q11, [x4, #288]
and v13.16b, v11.16b, v3.16b
tbl v13.16b, { v9.16b }, v13.16b
add v15.16b, v15.16b, v13.16b
ushr v11.16b, v11.16b, #4
tbl v11.16b, { v12.16b }, v11.16b
add v15.16b, v15.16b, v11.16b
ldr q11, [x4, #48]
and v13.16b, v11.16b, v3.16b
tbl v0.16b, { v0.16b }, v13.16b
add v0.16b, v16.16b, v0.16b
ushr v16.16b, v11.16b, #4
tbl v2.16b, { v2.16b }, v16.16b
add v0.16b, v0.16b, v2.16b
ldr q2, [x4, #112]
and v16.16b, v2.16b, v3.16b
tbl v1.16b, { v1.16b }, v16.16b
add v0.16b, v0.16b, v1.16b
ushr v2.16b, v2.16b, #4
tbl v2.16b, { v4.16b }, v2.16b
add v0.16b, v0.16b, v2.16b
ldr q2, [x4, #176]
and v1.16b, v2.16b, v3.16b
tbl v1.16b, { v6.16b }, v1.16b
add v0.16b, v0.16b, v1.16b
ushr v2.16b, v2.16b, #4
tbl v2.16b, { v7.16b }, v2.16b
add v0.16b, v0.16b, v2.16b
ldr q2, [x4, #240]
and v1.16b, v2.16b, v3.16b
tbl v1.16b, { v8.16b }, v1.16b
add v0.16b, v0.16b, v1.16b
ushr v2.16b, v2.16b, #4
tbl v2.16b, { v10.16b }, v2.16b
add v0.16b, v0.16b, v2.16b
ldr q2, [x4, #304]
and v1.16b, v2.16b, v3.16b
tbl v1.16b, { v9.16b }, v1.16b
add v0.16b, v0.16b, v1.16b
ushr v2.16b, v2.16b, #4
tbl v2.16b, { v12.16b }, v2.16b
add v16.16b, v0.16b, v2.16b
cbnz x0, label3 ; b label4
