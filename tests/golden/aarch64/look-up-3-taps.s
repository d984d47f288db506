sub x9, x9, #1
add x12, x15, #2
add x13, x11, #16
add x14, x10, #16
ldrb w19, [x15]
uxtb w19, w19
ldr q24, [x4, x19, LSL #4]
ldr q20, [x11]
and v17.16b, v20.16b, v0.16b
tbl v16.16b, { v24.16b }, v17.16b
add v19.16b, v27.16b, v16.16b
ldrb w19, [x15, #16]
uxtb w19, w19
ldr q13, [x4, x19, LSL #4]
ldr q21, [x11, #128]
and v18.16b, v21.16b, v0.16b
tbl v16.16b, { v13.16b }, v18.16b
add v23.16b, v19.16b, v16.16b
ldrb w19, [x15, #32]
uxtb w19, w19
ldr q10, [x4, x19, LSL #4]
ldr q22, [x11, #256]
and v19.16b, v22.16b, v0.16b
tbl v16.16b, { v10.16b }, v19.16b
add v23.16b, v23.16b, v16.16b
ldrb w11, [x15, #1]
uxtb w11, w11
ldr q8, [x4, x11, LSL #4]
ushr v20.16b, v20.16b, #4
tbl v16.16b, { v8.16b }, v20.16b
add v23.16b, v23.16b, v16.16b
ldrb w11, [x15, #17]
uxtb w11, w11
ldr q15, [x4, x11, LSL #4]
ushr v21.16b, v21.16b, #4
tbl v16.16b, { v15.16b }, v21.16b
add v23.16b, v23.16b, v16.16b
ldrb w11, [x15, #33]
uxtb w11, w11
ldr q11, [x4, x11, LSL #4]
ushr v22.16b, v22.16b, #4
tbl v16.16b, { v11.16b }, v22.16b
add v27.16b, v23.16b, v16.16b
ldr q26, [x10]
and v23.16b, v26.16b, v0.16b
tbl v16.16b, { v24.16b }, v23.16b
add v25.16b, v28.16b, v16.16b
ldr q28, [x10, #128]
and v24.16b, v28.16b, v0.16b
tbl v16.16b, { v13.16b }, v24.16b
add v12.16b, v25.16b, v16.16b
ldr q9, [x10, #256]
and v25.16b, v9.16b, v0.16b
tbl v16.16b, { v10.16b }, v25.16b
add v12.16b, v12.16b, v16.16b
ushr v26.16b, v26.16b, #4
tbl v16.16b, { v8.16b }, v26.16b
add v12.16b, v12.16b, v16.16b
ushr v8.16b, v28.16b, #4
tbl v16.16b, { v15.16b }, v8.16b
add v28.16b, v12.16b, v16.16b
ushr v9.16b, v9.16b, #4
tbl v16.16b, { v11.16b }, v9.16b
add v28.16b, v28.16b, v16.16b
tbl v16.16b, { v13.16b }, v17.16b
add v29.16b, v29.16b, v16.16b
tbl v16.16b, { v10.16b }, v18.16b
add v29.16b, v29.16b, v16.16b
ldrb w10, [x15, #48]
uxtb w10, w10
ldr q12, [x4, x10, LSL #4]
tbl v16.16b, { v12.16b }, v19.16b
add v29.16b, v29.16b, v16.16b
tbl v16.16b, { v15.16b }, v20.16b
add v29.16b, v29.16b, v16.16b
tbl v16.16b, { v11.16b }, v21.16b
add v29.16b, v29.16b, v16.16b
ldrb w10, [x15, #49]
uxtb w10, w10
ldr q14, [x4, x10, LSL #4]
tbl v16.16b, { v14.16b }, v22.16b
add v29.16b, v29.16b, v16.16b
tbl v16.16b, { v13.16b }, v23.16b
add v30.16b, v30.16b, v16.16b
tbl v16.16b, { v10.16b }, v24.16b
add v30.16b, v30.16b, v16.16b
tbl v16.16b, { v12.16b }, v25.16b
add v30.16b, v30.16b, v16.16b
tbl v16.16b, { v15.16b }, v26.16b
add v30.16b, v30.16b, v16.16b
tbl v16.16b, { v11.16b }, v8.16b
add v30.16b, v30.16b, v16.16b
tbl v16.16b, { v14.16b }, v9.16b
add v30.16b, v30.16b, v16.16b
tbl v16.16b, { v10.16b }, v17.16b
add v31.16b, v31.16b, v16.16b
tbl v16.16b, { v12.16b }, v18.16b
add v31.16b, v31.16b, v16.16b
ldrb w10, [x15, #64]
uxtb w10, w10
ldr q13, [x4, x10, LSL #4]
tbl v16.16b, { v13.16b }, v19.16b
add v31.16b, v31.16b, v16.16b
tbl v16.16b, { v11.16b }, v20.16b
add v31.16b, v31.16b, v16.16b
tbl v16.16b, { v14.16b }, v21.16b
add v31.16b, v31.16b, v16.16b
ldrb w10, [x15, #65]
uxtb w10, w10
ldr q15, [x4, x10, LSL #4]
tbl v16.16b, { v15.16b }, v22.16b
add v31.16b, v31.16b, v16.16b
tbl v16.16b, { v10.16b }, v23.16b
add v7.16b, v7.16b, v16.16b
tbl v16.16b, { v12.16b }, v24.16b
add v7.16b, v7.16b, v16.16b
tbl v16.16b, { v13.16b }, v25.16b
add v7.16b, v7.16b, v16.16b
tbl v16.16b, { v11.16b }, v26.16b
add v7.16b, v7.16b, v16.16b
tbl v16.16b, { v14.16b }, v8.16b
add v7.16b, v7.16b, v16.16b
tbl v16.16b, { v15.16b }, v9.16b
add v7.16b, v7.16b, v16.16b
tbl v16.16b, { v12.16b }, v17.16b
add v6.16b, v6.16b, v16.16b
tbl v16.16b, { v13.16b }, v18.16b
add v6.16b, v6.16b, v16.16b
ldrb w10, [x15, #80]
uxtb w10, w10
ldr q10, [x4, x10, LSL #4]
tbl v16.16b, { v10.16b }, v19.16b
add v6.16b, v6.16b, v16.16b
tbl v16.16b, { v14.16b }, v20.16b
add v6.16b, v6.16b, v16.16b
tbl v16.16b, { v15.16b }, v21.16b
add v6.16b, v6.16b, v16.16b
ldrb w10, [x15, #81]
uxtb w10, w10
ldr q11, [x4, x10, LSL #4]
tbl v16.16b, { v11.16b }, v22.16b
add v6.16b, v6.16b, v16.16b
tbl v16.16b, { v12.16b }, v23.16b
add v5.16b, v5.16b, v16.16b
tbl v16.16b, { v13.16b }, v24.16b
add v5.16b, v5.16b, v16.16b
tbl v16.16b, { v10.16b }, v25.16b
add v5.16b, v5.16b, v16.16b
tbl v16.16b, { v14.16b }, v26.16b
add v5.16b, v5.16b, v16.16b
tbl v16.16b, { v15.16b }, v8.16b
add v5.16b, v5.16b, v16.16b
tbl v16.16b, { v11.16b }, v9.16b
add v5.16b, v5.16b, v16.16b
tbl v16.16b, { v13.16b }, v17.16b
add v4.16b, v4.16b, v16.16b
tbl v16.16b, { v10.16b }, v18.16b
add v4.16b, v4.16b, v16.16b
ldrb w10, [x15, #96]
uxtb w10, w10
ldr q12, [x4, x10, LSL #4]
tbl v16.16b, { v12.16b }, v19.16b
add v4.16b, v4.16b, v16.16b
tbl v16.16b, { v15.16b }, v20.16b
add v4.16b, v4.16b, v16.16b
tbl v16.16b, { v11.16b }, v21.16b
add v4.16b, v4.16b, v16.16b
ldrb w10, [x15, #97]
uxtb w10, w10
ldr q14, [x4, x10, LSL #4]
tbl v16.16b, { v14.16b }, v22.16b
add v4.16b, v4.16b, v16.16b
tbl v16.16b, { v13.16b }, v23.16b
add v3.16b, v3.16b, v16.16b
tbl v16.16b, { v10.16b }, v24.16b
add v3.16b, v3.16b, v16.16b
tbl v16.16b, { v12.16b }, v25.16b
add v3.16b, v3.16b, v16.16b
tbl v16.16b, { v15.16b }, v26.16b
add v3.16b, v3.16b, v16.16b
tbl v16.16b, { v11.16b }, v8.16b
add v3.16b, v3.16b, v16.16b
tbl v16.16b, { v14.16b }, v9.16b
add v3.16b, v3.16b, v16.16b
tbl v16.16b, { v10.16b }, v17.16b
add v2.16b, v2.16b, v16.16b
tbl v16.16b, { v12.16b }, v18.16b
add v2.16b, v2.16b, v16.16b
ldrb w10, [x15, #112]
uxtb w10, w10
ldr q17, [x4, x10, LSL #4]
tbl v16.16b, { v17.16b }, v19.16b
add v2.16b, v2.16b, v16.16b
tbl v16.16b, { v11.16b }, v20.16b
add v2.16b, v2.16b, v16.16b
tbl v16.16b, { v14.16b }, v21.16b
add v2.16b, v2.16b, v16.16b
ldrb w10, [x15, #113]
uxtb w10, w10
ldr q18, [x4, x10, LSL #4]
tbl v16.16b, { v18.16b }, v22.16b
add v2.16b, v2.16b, v16.16b
tbl v16.16b, { v10.16b }, v23.16b
add v1.16b, v1.16b, v16.16b
tbl v16.16b, { v12.16b }, v24.16b
add v1.16b, v1.16b, v16.16b
tbl v16.16b, { v17.16b }, v25.16b
add v1.16b, v1.16b, v16.16b
tbl v16.16b, { v11.16b }, v26.16b
add v1.16b, v1.16b, v16.16b
tbl v16.16b, { v14.16b }, v8.16b
add v1.16b, v1.16b, v16.16b
tbl v16.16b, { v18.16b }, v9.16b
add v1.16b, v1.16b, v16.16b
cbnz x9, label14 ; b label15
