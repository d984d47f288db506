sub x0, x0, #1
add x1, x2, #2
add x3, x4, #16
add x5, x6, #16
ldrb w7, [x2]
uxtb w7, w7
ldr q0, [x8, x7, LSL #4]
ldr q1, [x4]
and v2.16b, v1.16b, v3.16b
tbl v4.16b, { v0.16b }, v2.16b
add v5.16b, v6.16b, v4.16b
ldrb w7, [x2, #16]
uxtb w7, w7
ldr q7, [x8, x7, LSL #4]
ldr q8, [x4, #128]
and v9.16b, v8.16b, v3.16b
tbl v4.16b, { v7.16b }, v9.16b
add v10.16b, v5.16b, v4.16b
ldrb w7, [x2, #32]
uxtb w7, w7
ldr q11, [x8, x7, LSL #4]
ldr q12, [x4, #256]
and v5.16b, v12.16b, v3.16b
tbl v4.16b, { v11.16b }, v5.16b
add v10.16b, v10.16b, v4.16b
ldrb w4, [x2, #1]
uxtb w4, w4
ldr q13, [x8, x4, LSL #4]
ushr v1.16b, v1.16b, #4
tbl v4.16b, { v13.16b }, v1.16b
add v10.16b, v10.16b, v4.16b
ldrb w4, [x2, #17]
uxtb w4, w4
ldr q14, [x8, x4, LSL #4]
ushr v8.16b, v8.16b, #4
tbl v4.16b, { v14.16b }, v8.16b
add v10.16b, v10.16b, v4.16b
ldrb w4, [x2, #33]
uxtb w4, w4
ldr q15, [x8, x4, LSL #4]
ushr v12.16b, v12.16b, #4
tbl v4.16b, { v15.16b }, v12.16b
add v6.16b, v10.16b, v4.16b
ldr q16, [x6]
and v10.16b, v16.16b, v3.16b
tbl v4.16b, { v0.16b }, v10.16b
add v17.16b, v18.16b, v4.16b
ldr q18, [x6, #128]
and v0.16b, v18.16b, v3.16b
tbl v4.16b, { v7.16b }, v0.16b
add v19.16b, v17.16b, v4.16b
ldr q20, [x6, #256]
and v17.16b, v20.16b, v3.16b
tbl v4.16b, { v11.16b }, v17.16b
add v19.16b, v19.16b, v4.16b
ushr v16.16b, v16.16b, #4
tbl v4.16b, { v13.16b }, v16.16b
add v19.16b, v19.16b, v4.16b
ushr v13.16b, v18.16b, #4
tbl v4.16b, { v14.16b }, v13.16b
add v18.16b, v19.16b, v4.16b
ushr v20.16b, v20.16b, #4
tbl v4.16b, { v15.16b }, v20.16b
add v18.16b, v18.16b, v4.16b
tbl v4.16b, { v7.16b }, v2.16b
add v21.16b, v21.16b, v4.16b
tbl v4.16b, { v11.16b }, v9.16b
add v21.16b, v21.16b, v4.16b
ldrb w6, [x2, #48]
uxtb w6, w6
ldr q19, [x8, x6, LSL #4]
tbl v4.16b, { v19.16b }, v5.16b
add v21.16b, v21.16b, v4.16b
tbl v4.16b, { v14.16b }, v1.16b
add v21.16b, v21.16b, v4.16b
tbl v4.16b, { v15.16b }, v8.16b
add v21.16b, v21.16b, v4.16b
ldrb w6, [x2, #49]
uxtb w6, w6
ldr q22, [x8, x6, LSL #4]
tbl v4.16b, { v22.16b }, v12.16b
add v21.16b, v21.16b, v4.16b
tbl v4.16b, { v7.16b }, v10.16b
add v23.16b, v23.16b, v4.16b
tbl v4.16b, { v11.16b }, v0.16b
add v23.16b, v23.16b, v4.16b
tbl v4.16b, { v19.16b }, v17.16b
add v23.16b, v23.16b, v4.16b
tbl v4.16b, { v14.16b }, v16.16b
add v23.16b, v23.16b, v4.16b
tbl v4.16b, { v15.16b }, v13.16b
add v23.16b, v23.16b, v4.16b
tbl v4.16b, { v22.16b }, v20.16b
add v23.16b, v23.16b, v4.16b
tbl v4.16b, { v11.16b }, v2.16b
add v24.16b, v24.16b, v4.16b
tbl v4.16b, { v19.16b }, v9.16b
add v24.16b, v24.16b, v4.16b
ldrb w6, [x2, #64]
uxtb w6, w6
ldr q7, [x8, x6, LSL #4]
tbl v4.16b, { v7.16b }, v5.16b
add v24.16b, v24.16b, v4.16b
tbl v4.16b, { v15.16b }, v1.16b
add v24.16b, v24.16b, v4.16b
tbl v4.16b, { v22.16b }, v8.16b
add v24.16b, v24.16b, v4.16b
ldrb w6, [x2, #65]
uxtb w6, w6
ldr q14, [x8, x6, LSL #4]
tbl v4.16b, { v14.16b }, v12.16b
add v24.16b, v24.16b, v4.16b
tbl v4.16b, { v11.16b }, v10.16b
add v25.16b, v25.16b, v4.16b
tbl v4.16b, { v19.16b }, v0.16b
add v25.16b, v25.16b, v4.16b
tbl v4.16b, { v7.16b }, v17.16b
add v25.16b, v25.16b, v4.16b
tbl v4.16b, { v15.16b }, v16.16b
add v25.16b, v25.16b, v4.16b
tbl v4.16b, { v22.16b }, v13.16b
add v25.16b, v25.16b, v4.16b
tbl v4.16b, { v14.16b }, v20.16b
add v25.16b, v25.16b, v4.16b
tbl v4.16b, { v19.16b }, v2.16b
add v26.16b, v26.16b, v4.16b
tbl v4.16b, { v7.16b }, v9.16b
add v26.16b, v26.16b, v4.16b
ldrb w6, [x2, #80]
uxtb w6, w6
ldr q11, [x8, x6, LSL #4]
tbl v4.16b, { v11.16b }, v5.16b
add v26.16b, v26.16b, v4.16b
tbl v4.16b, { v22.16b }, v1.16b
add v26.16b, v26.16b, v4.16b
tbl v4.16b, { v14.16b }, v8.16b
add v26.16b, v26.16b, v4.16b
ldrb w6, [x2, #81]
uxtb w6, w6
ldr q15, [x8, x6, LSL #4]
tbl v4.16b, { v15.16b }, v12.16b
add v26.16b, v26.16b, v4.16b
tbl v4.16b, { v19.16b }, v10.16b
add v27.16b, v27.16b, v4.16b
tbl v4.16b, { v7.16b }, v0.16b
add v27.16b, v27.16b, v4.16b
tbl v4.16b, { v11.16b }, v17.16b
add v27.16b, v27.16b, v4.16b
tbl v4.16b, { v22.16b }, v16.16b
add v27.16b, v27.16b, v4.16b
tbl v4.16b, { v14.16b }, v13.16b
add v27.16b, v27.16b, v4.16b
tbl v4.16b, { v15.16b }, v20.16b
add v27.16b, v27.16b, v4.16b
tbl v4.16b, { v7.16b }, v2.16b
add v28.16b, v28.16b, v4.16b
tbl v4.16b, { v11.16b }, v9.16b
add v28.16b, v28.16b, v4.16b
ldrb w6, [x2, #96]
uxtb w6, w6
ldr q19, [x8, x6, LSL #4]
tbl v4.16b, { v19.16b }, v5.16b
add v28.16b, v28.16b, v4.16b
tbl v4.16b, { v14.16b }, v1.16b
add v28.16b, v28.16b, v4.16b
tbl v4.16b, { v15.16b }, v8.16b
add v28.16b, v28.16b, v4.16b
ldrb w6, [x2, #97]
uxtb w6, w6
ldr q22, [x8, x6, LSL #4]
tbl v4.16b, { v22.16b }, v12.16b
add v28.16b, v28.16b, v4.16b
tbl v4.16b, { v7.16b }, v10.16b
add v29.16b, v29.16b, v4.16b
tbl v4.16b, { v11.16b }, v0.16b
add v29.16b, v29.16b, v4.16b
tbl v4.16b, { v19.16b }, v17.16b
add v29.16b, v29.16b, v4.16b
tbl v4.16b, { v14.16b }, v16.16b
add v29.16b, v29.16b, v4.16b
tbl v4.16b, { v15.16b }, v13.16b
add v29.16b, v29.16b, v4.16b
tbl v4.16b, { v22.16b }, v20.16b
add v29.16b, v29.16b, v4.16b
tbl v4.16b, { v11.16b }, v2.16b
add v30.16b, v30.16b, v4.16b
tbl v4.16b, { v19.16b }, v9.16b
add v30.16b, v30.16b, v4.16b
ldrb w6, [x2, #112]
uxtb w6, w6
ldr q2, [x8, x6, LSL #4]
tbl v4.16b, { v2.16b }, v5.16b
add v30.16b, v30.16b, v4.16b
tbl v4.16b, { v15.16b }, v1.16b
add v30.16b, v30.16b, v4.16b
tbl v4.16b, { v22.16b }, v8.16b
add v30.16b, v30.16b, v4.16b
ldrb w6, [x2, #113]
uxtb w6, w6
ldr q9, [x8, x6, LSL #4]
tbl v4.16b, { v9.16b }, v12.16b
add v30.16b, v30.16b, v4.16b
tbl v4.16b, { v11.16b }, v10.16b
add v31.16b, v31.16b, v4.16b
tbl v4.16b, { v19.16b }, v0.16b
add v31.16b, v31.16b, v4.16b
tbl v4.16b, { v2.16b }, v17.16b
add v31.16b, v31.16b, v4.16b
tbl v4.16b, { v15.16b }, v16.16b
add v31.16b, v31.16b, v4.16b
tbl v4.16b, { v22.16b }, v13.16b
add v31.16b, v31.16b, v4.16b
tbl v4.16b, { v9.16b }, v20.16b
add v31.16b, v31.16b, v4.16b
cbnz x0, label14 ; b label15
